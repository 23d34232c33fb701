"""A YOLO of ultralytics with blocks, from construction to removal; prints what it found as JSON.

Run in a process of its own, in an empty folder: ultralytics changes the seeds, the algorithms and
the environment of its process.
"""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

from convattn import find, insert, remove
from convattn.insertion import positions

AT = "model.[246]"  # the backbone's stages, of which 4 and 6 are read again by the neck
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Trainer(DetectionTrainer):
    """Ultralytics builds the model of a training from its YAML: here the blocks come in."""

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        model = super().get_model(cfg, None, verbose)
        insert(model, "ca", AT)
        if weights is not None:
            model.load(weights)
        return model


def squares(folder: Path) -> Path:
    """Four images with a square each, in ultralytics' layout."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for i in range(4):
        pixels = rng.integers(0, 80, (64, 64, 3), dtype=np.uint8)
        x, y = rng.integers(4, 36, 2)
        pixels[y : y + 24, x : x + 24] = 255
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        line = f"0 {(x + 12) / 64} {(y + 12) / 64} {24 / 64} {24 / 64}\n"
        (folder / "labels" / f"{i}.txt").write_text(line)
    description = folder / "data.yaml"
    description.write_text(
        f"path: {folder.resolve()}\ntrain: images\nval: images\nnames: {{0: square}}\n"
    )
    return description


def layers(model: Any) -> list[Any]:
    """The attributes by which ultralytics runs its layers."""
    return [[m.i, m.f, m.type, m.np] for m in model.model]


def outputs(model: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        leaves: list[Any] = torch.utils._pytree.tree_leaves(model.eval()(IMAGE))
        return [x for x in leaves if isinstance(x, torch.Tensor)]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def spoiled(model: nn.Module) -> nn.Module:
    """With blocks that do something."""
    torch.manual_seed(1)
    for found in find(model):
        for parameter in model.get_submodule(found.path).parameters():
            nn.init.normal_(parameter, 0, 0.3)
    return model


def insertion(name: str) -> dict[str, Any]:
    """Identity, attributes, fusion and removal at every position of a model."""
    model = YOLO(name).model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    before, expected, keys = layers(model), outputs(model), list(model.state_dict())
    state = {key: value.clone() for key, value in model.state_dict().items()}
    counts = positions(model, input_size=(1, 3, 64, 64))
    wrong = []
    for at in (*counts, AT):
        insert(model, "ca", at, input_size=(1, 3, 64, 64))
        if not same(outputs(model), expected) or layers(model) != before:
            wrong.append(f"{at}: not as before")
        spoiled(model)
        if same(outputs(model), expected):
            wrong.append(f"{at}: not applied")
        remove(model)
        if not same(outputs(model), expected) or list(model.state_dict()) != keys:
            wrong.append(f"{at}: not removed")
    if any(not torch.equal(value, state[key]) for key, value in model.state_dict().items()):
        wrong.append("weights changed")
    return {"positions": counts, "wrong": wrong, "fused": fusion_error(model)}


def fusion_error(model: nn.Module) -> dict[str, float]:
    """Largest change of the outputs by ultralytics' fusion of norms, relative to their size."""
    errors = {}
    for at in ("before_add", "stage_end", AT):
        spoiled(insert(model, "ca", at, input_size=(1, 3, 64, 64)))
        plain = outputs(model)
        other = YOLO(model.yaml["yaml_file"]).model
        outputs(other)
        insert(other, "ca", at, input_size=(1, 3, 64, 64))
        other.load_state_dict(model.state_dict())
        fused = outputs(other.fuse(verbose=False))
        errors[at] = max(
            float((a - b).abs().max() / a.abs().max()) for a, b in zip(plain, fused, strict=True)
        )
        remove(model)
    return errors


def life() -> dict[str, Any]:
    """Train, save, load, predict, go on training, remove."""
    options: dict[str, Any] = {
        "data": str(squares(Path("squares"))), "epochs": 1, "batch": 2, "imgsz": 64,
        "device": "cpu", "workers": 0, "plots": False, "verbose": False,
        "project": str(Path("runs").resolve()),
    }  # fmt: skip
    yolo = YOLO("yolo11n.yaml")
    plain = layers(yolo.model)
    yolo.train(trainer=Trainer, name="first", **options)
    best = Path(yolo.trainer.best)
    loaded = YOLO(best)
    weights = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    gates = [key for key in weights if ".attention.conv_" in key]
    kept = layers(loaded.model)
    expected = outputs(loaded.model)
    image = np.zeros((64, 64, 3), np.uint8)
    boxes = loaded.predict(image, imgsz=64, conf=0.0, verbose=False)[0].boxes
    again = YOLO(best)
    still = {"optimizer": "SGD", "lr0": 1e-9, "warmup_epochs": 0}
    again.train(trainer=Trainer, name="second", **options, **still)
    carried = again.model.state_dict()
    return {
        "loaded": [[found.path, found.live] for found in find(loaded.model)],
        "layers": [layer[:3] for layer in kept] == [layer[:3] for layer in plain],
        "moved": min(float(weights[key].abs().max()) for key in gates),
        "repeatable": same(outputs(YOLO(best).model), expected),
        "boxes": list(boxes.shape),
        "carried": all(torch.equal(carried[key], weights[key]) for key in gates),
        "removed": list(remove(YOLO(best).model).state_dict())
        == list(YOLO("yolo11n.yaml").model.state_dict()),
    }


if __name__ == "__main__":
    warnings.simplefilter("error")
    random.seed(0)
    facts = {name: insertion(name) for name in ("yolo11n.yaml", "yolov8n.yaml")}
    Path("facts.json").write_text(json.dumps({**facts, "life": life()}))
