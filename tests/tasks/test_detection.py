"""Detectors: four images learned by heart, a run from start to end, labels and weights kept."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convattn import create_model
from convattn.authors import to_authors
from convattn.cli import main
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, StateDictError
from convattn.tasks.detection import Detection
from convattn.tasks.kinds import restore, task_class
from convattn.tasks.train import evaluate

TINY = {"train_count": 4, "test_count": 2, "size": 64}


def config_of(model: str, **more: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "task": "instance" if model == "mask_rcnn" else "detection",
        "model": model,
        "backbone": "mobilenet_v2",
        "backbone_args": {"width_mult": 0.35},
        "attention": "ca",
        "augment": "none",
        "imgsz": 96,
        "data_args": TINY,
    }
    return TrainConfig(**{**values, **more})


FEW = {
    "width": 64, "box_batch_size_per_image": 32, "rpn_post_nms_top_n_train": 100,
    "rpn_post_nms_top_n_test": 100, "box_detections_per_img": 20,
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "arguments", "side", "lr", "steps"),
    [
        ("ssdlite320", {}, 96, 2e-3, 80),
        ("ssdlite320", {"loss": "focal"}, 96, 2e-3, 80),
        # of anchors from 32 pixels on, digits of 64x64 scenes reach their sizes at twice the side
        ("retinanet", {"width": 64}, 128, 1e-3, 120),
        ("faster_rcnn", FEW, 128, 1e-3, 100),
        ("mask_rcnn", FEW, 128, 1e-3, 120),
    ],
    ids=["ssdlite320", "ssdlite320 focal", "retinanet", "faster_rcnn", "mask_rcnn"],
)
def test_four_images_are_learned_by_heart(
    model: str, arguments: dict[str, Any], side: int, lr: float, steps: int
) -> None:
    config = config_of(model, model_args=arguments, imgsz=side)
    kind = task_class(config.task)
    data = kind.open_data(config)
    task = kind(config, replace(data, test=data.train))
    batch = task.collate([task.train_set[0, i] for i in range(4)])
    truth = task.collate([task.test_set[i] for i in range(4)])
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=lr)
    wanted = {"map50", "mask_map50"} if model == "mask_rcnn" else {"map50"}

    def scores() -> list[float]:
        task.model.eval()
        for module in task.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()  # running variances are of n - 1: of four 1x1 maps a third too large
        with torch.no_grad():
            found = task.evaluate(task.model, [truth])
        return [found.get(name, 0) for name in wanted]

    assert max(scores()) < 0.1
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        sum(task.loss(task.model.train(), batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 10.0)
        optimizer.step()
        if step % 20 == 0 and min(scores()) > 0.9:
            break
    else:
        pytest.fail(f"not learned in {steps} steps: {wanted} {scores()}")


def test_a_run_its_weights_and_its_files(tmp_path: Path) -> None:
    task, model = "detection", "ssdlite320"
    code = main([
        "train", "--task", task, "--model", model, "--backbone", "mobilenet_v2",
        "--attention", "ca", "--backbone_args", "{width_mult: 0.35}", "--epochs", "1",
        "--data_args", "{train_count: 4, test_count: 3, size: 64}", "--batch", "2",
        "--imgsz", "64", "--tensorboard", "false", "--project", str(tmp_path), "--name", "r",
        "--device", "cpu", "--lr", "0.001",
    ])  # fmt: skip
    assert code == 0
    run = tmp_path / "r"
    with (run / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    parts = [float(v) for k, v in row.items() if k.startswith("train_") and k != "train_loss"]
    assert float(row["train_loss"]) == pytest.approx(sum(parts), rel=1e-4)
    model_again, saved = restore(run)
    assert not model_again.training
    again = evaluate(run, batch=2, device="cpu")["metrics"]
    assert again["map"] == pytest.approx(float(row["map"]), abs=1e-6)
    assert saved["facts"]["task"] == task
    assert (run / "predictions.png").stat().st_size > 1000
    assert (run / "classes.csv").read_text().startswith("class,")


@pytest.mark.parametrize("model", ["ssdlite320", "retinanet", "faster_rcnn"])
def test_labels_are_indices_of_the_classes(model: str) -> None:
    """Whether a detector counts the background or not."""
    config = config_of(model)
    task = Detection(config, Detection.open_data(config))
    batch = task.collate([task.train_set[0, i] for i in range(2)])
    seen: list[Any] = []

    class Spy(torch.nn.Module):
        first_label = task.model.first_label

        def forward(self, images: Any, targets: Any = None) -> Any:
            seen.append((images, targets))
            if targets is not None:
                return {}  # losses
            labels = torch.tensor([0, 3]) + self.first_label
            return [{"boxes": torch.ones(2, 4), "labels": labels, "scores": torch.ones(2)}]

    task.loss(Spy(), batch)
    images, targets = seen[0]
    assert 0 <= float(images[0].min()) <= float(images[0].max()) <= 1
    assert torch.equal(targets[0]["labels"], batch.targets[0]["labels"] + task.model.first_label)
    assert task.detect(Spy(), batch.images[:1])[0]["labels"].tolist() == [0, 3]


TORCHVISION = "pytorch/vision:torchvision/models/mobilenetv2.py:mobilenet_v2"
CA = "houqb/CoordAttention:mbv2_ca.py:MBV2_CA"


@pytest.mark.parametrize("source", [None, TORCHVISION], ids=["ours", "torchvision"])
def test_weights_of_a_classification_network_become_the_backbone(
    source: str | None, tmp_path: Path
) -> None:
    whole = create_model("mobilenet_v2", width_mult=0.35, num_classes=7)
    state = whole.state_dict() if source is None else to_authors(whole, source=source)
    torch.save(state, tmp_path / "w.pt")
    for model in ("ssdlite320", "retinanet"):
        config = config_of(model, backbone_weights=str(tmp_path / "w.pt"))
        task = Detection(config, Detection.open_data(config))
        ours = task.model.state_dict()
        start = "backbone.host." if model == "ssdlite320" else "backbone.body.host."
        for name, value in whole.state_dict().items():
            if f"{start}{name}" in ours:
                assert torch.equal(ours[f"{start}{name}"], value), name
        assert sum(k.startswith(start) and k.removeprefix(start) in whole.state_dict()
                   for k in ours) > 200  # fmt: skip
        assert "w.pt" in task.notes[0]
        assert ("authors' names" in task.notes[0]) == (source is not None)


@pytest.mark.parametrize("source", [None, CA], ids=["ours", "houqb"])
def test_a_backbone_may_be_trained_with_its_blocks(source: str | None, tmp_path: Path) -> None:
    """As the papers' detectors: the blocks' weights come from classification too."""
    whole = create_model("mobilenet_v2", width_mult=0.35, num_classes=7, attention="ca")
    state = whole.state_dict() if source is None else to_authors(whole, source=source)
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    given = {"attention": "ca", "backbone_weights": str(tmp_path / "w.pt")}
    for model, start in (("ssdlite320", "backbone.host."), ("retinanet", "backbone.body.host.")):
        config = config_of(model, **given, attention_init="authors")
        task = Detection(config, Detection.open_data(config))
        ours = task.model.state_dict()
        kept = {k for k in whole.state_dict() if not k.startswith(("classifier", "head"))}
        assert sum(".after_depthwise." in k for k in kept) == 16 * 11
        assert all(torch.equal(ours[start + k], whole.state_dict()[k]) for k in kept)
        extra = [k for k in ours if ".extras." in k and ".after_depthwise." in k]
        assert len(extra) == (4 * 11 if model == "ssdlite320" else 0)  # the detector's own, drawn
        again = Detection(config, task.data, resumed=True).model  # without the file
        assert again.state_dict().keys() == ours.keys()
    data = task.data
    with pytest.raises(ArgumentError, match=r"started as 'authors'.* give --attention_init auth"):
        Detection(config_of("retinanet", **given), data)
    with pytest.raises(StateDictError, match=r"missing.*unexpected.*and these blocks"):
        Detection(config_of("retinanet", **{**given, "attention": "se"}), data)


def test_a_backbone_whose_blocks_started_as_the_identity(tmp_path: Path) -> None:
    """Its gates are doubled, so another start would compute something else."""
    line = ["train", "--attention", "ca", "--attention_init", "identity", "--model_args",
            "{width_mult: 0.35}", "--data_args", "{train_count: 64, test_count: 8, size: 32}",
            "--epochs", "1", "--batch", "32", "--tensorboard", "false", "--device", "cpu",
            "--project", str(tmp_path), "--name", "r"]  # fmt: skip
    assert main(line) == 0
    run = str(tmp_path / "r")
    given = {"attention": "ca", "backbone_weights": run}
    config = config_of("retinanet", **given, attention_init="identity")
    data = Detection.open_data(config)
    host = Detection(config, data).model.backbone.body.host.eval()
    trained = restore(run)[0]
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(host(x)[-1], trained.blocks(trained.stem(x)))
    with pytest.raises(
        ArgumentError, match="started as 'identity', and attention_init is 'authors'"
    ):
        Detection(config_of("retinanet", **given, attention_init="authors"), data)


def test_the_reference_is_the_score_of_mean_boxes() -> None:
    config = config_of("ssdlite320", data_args={"train_count": 10, "test_count": 10, "size": 48})
    value = Detection.references(Detection.open_data(config))["mean boxes"]
    assert 0 <= value < 0.2


def test_what_is_refused() -> None:
    data = Detection.open_data(config_of("ssdlite320"))
    for change, words in (
        ({"model": "mask_rcnn"}, "--task detection has the models ssdlite320, retinanet, faster"),
        ({"backbone": None}, "needs a backbone"),
        (
            {"backbone": "resnet18", "backbone_args": {}},
            "has the backbones mobilenet_v2, mobilenext",
        ),
        ({"model_args": {"min_size": 5}}, "no argument 'min_size'"),
    ):
        config = TrainConfig(**{**vars(config_of("ssdlite320")), **change})
        with pytest.raises(ArgumentError, match=words):
            Detection(config, data)
