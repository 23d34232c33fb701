"""A task of another kind plugs into runs, evaluation and the command line; nothing else is edited.

The task here is a tiny detector of sorts: images of different sizes, a ragged list of targets, a
loss in two parts, a metric of its own.
"""

from __future__ import annotations

import csv
import importlib.machinery
import math
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.cli import main
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.seeds import derive, seeded
from convattn.engine.run import RunFolder
from convattn.tasks import kinds
from convattn.tasks.kinds import restore, task_class, task_names
from convattn.tasks.train import evaluate


class Points:
    """Images of two sizes; the targets are none to two points and a brightness."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Any) -> dict[str, Any]:
        index = key[1] if isinstance(key, tuple) else key
        with seeded(derive(0, "points", index)):
            image = torch.rand(3, 8 + 4 * (index % 2), 8)
        points = torch.full((index % 3, 2), float(image.mean()))
        return {"image": image, "target": {"points": points, "index": torch.tensor(index)}}


@dataclass(frozen=True)
class PointData:
    name: str
    train: Points
    test: Points
    classes: tuple[str, ...] = ("dark", "bright")
    fingerprint: str = "points"
    skipped: tuple[tuple[str, str], ...] = (("a.png", "no such file"),)
    notes: tuple[str, ...] = ("points are drawn",)


class Net(nn.Module):
    """As torchvision's detectors: lists go in, a dict of losses or a list of dicts comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        found = [self.conv(image).mean((1, 2)) for image in images]
        if targets is None:
            return [{"points": each} for each in found]
        pairs = [
            (f.expand_as(t["points"]), t["points"]) for f, t in zip(found, targets, strict=True)
        ]
        points = torch.stack([F.mse_loss(f, t) if len(t) else f.sum() * 0 for f, t in pairs])
        return {"loss_points": points.mean(), "loss_size": 0.1 * torch.stack(found).square().mean()}


class Detection:
    metric = "map"
    curves = ("map",)
    class_metric = ""
    by_class: dict[str, dict[str, float]] = {}

    def __init__(
        self, config: TrainConfig, data: PointData, *, model: Any = None, resumed: bool = False
    ) -> None:
        self.data, self.notes = data, ["built"] if model is None else []
        with seeded(derive(config.seed, "weights")):
            self.model = Net() if model is None else model
        self.facts = {"task": "detection", "classes": list(data.classes), "size": 8}
        self.train_set, self.test_set = data.train, data.test
        self.train_size, self.fingerprint = len(data.train), data.fingerprint
        self.parameters = [{"params": list(self.model.parameters())}]
        self.evaluated = False

    @staticmethod
    def open_data(config: TrainConfig) -> PointData:
        return PointData(config.data, Points(10), Points(4))

    @staticmethod
    def rebuild(facts: dict[str, Any]) -> nn.Module:
        return Net()

    @staticmethod
    def references(data: PointData) -> dict[str, float]:
        return {}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: [sample[key] for sample in samples] for key in samples[0]}

    def batch_size(self, batch: dict[str, Any]) -> int:
        return len(batch["image"])

    def sample_ids(self, batch: dict[str, Any]) -> list[str]:
        return [f"points/{target['index']}" for target in batch["target"]]

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return model(batch["image"], batch["target"])

    def evaluate(self, model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        self.evaluated = True
        errors = [
            float((found["points"] - image.mean()).abs().mean())
            for batch in batches
            for found, image in zip(model(batch["image"]), batch["image"], strict=True)
        ]
        return {"map": math.exp(-sum(errors) / len(errors))}

    def write_pictures(self, folder: Path) -> None:
        (folder / "pictures.txt").write_text("drawn")


@pytest.fixture
def _plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("convattn.tasks._points")
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    module.Detection = Detection  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(kinds._KINDS, "detection", "_points:Detection")


@pytest.mark.usefixtures("_plugged")
def test_a_task_of_another_kind_trains_resumes_and_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [
        "train", "--task", "detection", "--model", "points", "--backbone", "mobilenet_v2",
        "--batch", "4", "--epochs", "3", "--device", "cpu", "--threads", "1", "--lr", "0.1",
        "--attention", "ca@x",
    ]  # fmt: skip
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert "best mAP " in out
    assert "runs/points_mobilenet_v2_ca_x" in out
    for note in ("points are drawn", "left out a.png: no such file", "built"):
        assert note in err
    run = RunFolder("runs/points_mobilenet_v2_ca_x")
    with (run.path / "results.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        parts = row["train_loss_points"] + row["train_loss_size"]
        assert row["train_loss"] == pytest.approx(parts, rel=1e-6)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    summary = run.summary()
    assert summary is not None
    assert summary["task"] == "detection"
    assert summary["metric"] == "map"
    assert summary["metrics"] == {"map": rows[-1]["map"]}
    assert summary["best"]["map"] == max(row["map"] for row in rows)
    assert (run.path / "pictures.txt").is_file()
    assert (run.path / "results.png").read_bytes().startswith(b"\x89PNG")
    model, saved = restore(run.path)
    assert isinstance(model, Net)
    assert saved["facts"]["task"] == "detection"
    assert evaluate(run.path, device="cpu")["metrics"]["map"] == pytest.approx(
        summary["best"]["map"], rel=1e-6
    )
    assert main(["eval", str(run.path), "--device", "cpu"]) == 0
    assert f"4 images: mAP {100 * summary['best']['map']:.2f} %" in capsys.readouterr().out
    assert main(["train", "--resume", str(run.path)]) == 0
    assert run.summary() == summary
    capsys.readouterr()
    assert main(["explain", str(run.path)]) == 2
    assert "of detection" in capsys.readouterr().err


def test_a_task_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds._KINDS, "detection", "_gone:Detection")
    assert "classification" in task_names()
    assert "detection" not in task_names()
    with pytest.raises(ArgumentError, match="no task 'detection'; choose classification"):
        task_class("detection")


@pytest.mark.parametrize(
    "field", [{"backbone": "resnet18"}, {"backbone_weights": "x.pth"}, {"backbone_args": {"a": 1}}]
)
def test_classification_has_no_backbone(field: dict[str, Any]) -> None:
    kind = task_class("classification")
    config = TrainConfig(data_args={"train_count": 20, "test_count": 10, "size": 24}, **field)
    with pytest.raises(ArgumentError, match="no backbone; name the network with --model"):
        kind(config, kind.open_data(config))
