"""Segmentation: scores by hand and by torchmetrics, losses, a run from start to end."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from convattn.cli import main
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.data.samples import SegmentationData, SegmentationSample
from convattn.tasks.kinds import restore
from convattn.tasks.segmentation import Segmentation, ious
from convattn.tasks.train import evaluate

TINY = {"train_count": 12, "test_count": 6, "size": 32}
CONFIG = TrainConfig(
    task="segmentation", model="deeplabv3", backbone="mobilenet_v2", attention="ca",
    backbone_args={"width_mult": 0.35}, data_args=TINY, augment="none",
)  # fmt: skip


class Maps:
    """Label maps in memory; the image shows its map, so that a network could know it."""

    def __init__(self, *maps: list[list[int]]) -> None:
        self.maps = [torch.tensor(each, dtype=torch.uint8) for each in maps]

    def __len__(self) -> int:
        return len(self.maps)

    def sample_id(self, index: int) -> str:
        return str(index)

    def sample(self, index: int) -> SegmentationSample:
        mask = self.maps[index]
        return SegmentationSample(mask.expand(3, -1, -1).clone(), mask, str(index))


class Says(nn.Module):
    """Predicts the class that the image's first channel is, or one for all pixels."""

    def __init__(self, classes: int, always: int | None = None) -> None:
        super().__init__()
        self.classes, self.always = classes, always
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        values = (images[:, 0] * 0.229 + 0.485) * 255  # what the task normalised
        found = values.round().long().clamp(0, self.classes - 1)
        if self.always is not None:
            found = torch.full_like(found, self.always)
        return {"out": nn.functional.one_hot(found, self.classes).permute(0, 3, 1, 2).float() * 20}


def task_of(model: nn.Module, *maps: list[list[int]], classes: int = 3) -> Segmentation:
    sets = Maps(*maps)
    data = SegmentationData("x", "camvid", sets, sets, tuple("abcdefg"[:classes]), "0")
    return Segmentation(CONFIG, data, model=model)


def scores(task: Segmentation, batch: int = 1) -> dict[str, float]:
    samples = [task.test_set[i] for i in range(len(task.test_set))]  # type: ignore[arg-type]
    pieces = [samples[i : i + batch] for i in range(0, len(samples), batch)]
    with torch.no_grad():
        return task.evaluate(task.model, [task.collate(piece) for piece in pieces])


def test_iou_by_hand() -> None:
    # Class 0: 3 right of 5 in either; class 1: 2 of 4; class 2 never occurs.
    confusion = torch.tensor([[3, 1, 0], [1, 2, 0], [0, 0, 0]])
    each = ious(confusion)
    assert each[:2].tolist() == pytest.approx([3 / 5, 2 / 4])
    assert each[2].isnan()


def test_ignored_pixels_count_nowhere() -> None:
    always = task_of(Says(3, always=0), [[0, 0, 1, 255]], [[0, 255, 255, 2]])
    found = scores(always)
    # Right: 3 of 5 that count. IoU of class 0: 3 / 5; of 1 and 2: 0.
    assert found["pixel_accuracy"] == pytest.approx(3 / 5)
    assert found["miou"] == pytest.approx((3 / 5 + 0 + 0) / 3)
    knows = scores(task_of(Says(3), [[0, 0, 1, 255]], [[0, 255, 255, 2]]))
    assert knows["miou"] == knows["pixel_accuracy"] == 1


def test_images_of_any_size_in_any_batch_score_the_same() -> None:
    maps = [[[0, 1, 2]], [[0], [255]], [[1, 1, 0]], [[2, 2], [0, 1]]]
    found = [scores(task_of(Says(3, always=1), *maps), batch) for batch in (1, 3, 4)]
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])


def test_the_score_is_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 5, (6, 16, 16), generator=generator)
    truth[:, :3] = 255
    guess = torch.where(torch.rand(6, 16, 16, generator=generator) < 0.6, truth, 1).clamp(0, 4)
    confusion = torch.zeros(5, 5, dtype=torch.int64)
    valid = truth != 255
    for row, column in zip(truth[valid].tolist(), guess[valid].tolist(), strict=True):
        confusion[row, column] += 1
    theirs = MulticlassJaccardIndex(5, average="none", ignore_index=255)(guess, truth)
    torch.testing.assert_close(ious(confusion).float(), theirs)


def test_the_loss_is_a_mean_over_pixels_then_images() -> None:
    task = task_of(Says(2, always=0), [[0, 1]], classes=2)
    logits = torch.zeros(3, 2, 1, 2)
    logits[:, 0] = 1.0
    masks = torch.tensor([[[0, 1]], [[0, 255]], [[255, 255]]], dtype=torch.uint8)

    class Fixed(nn.Module):
        def forward(self, _: Tensor) -> dict[str, Tensor]:
            return {"out": logits, "aux": logits}

    image = torch.zeros(3, 3, 1, 2, dtype=torch.uint8)
    batch = task.collate([(image[k], masks[k], k) for k in range(3)])
    parts = task.loss(Fixed(), batch)
    right, wrong = torch.log1p(torch.exp(torch.tensor([-1.0, 1.0]))).tolist()
    expected = ((right + wrong) / 2 + right + 0) / 3  # the third image has no pixel that counts
    assert float(parts["pixel"]) == pytest.approx(expected)
    assert float(parts["aux"]) == pytest.approx(0.4 * expected)


def test_the_reference_calls_all_pixels_the_commonest_class() -> None:
    task = task_of(Says(3, always=0), [[0, 0, 1, 255]], [[0, 255, 255, 2]])
    assert Segmentation.references(task.data) == {"commonest class": pytest.approx(3 / 5 / 3)}
    assert scores(task)["miou"] == pytest.approx(3 / 5 / 3)


def test_a_run_its_weights_and_its_files(tmp_path: Path) -> None:
    backbone = "{width_mult: 0.35}"
    data = "{train_count: 12, test_count: 6, size: 32}"
    code = main([
        "train", "--task", "segmentation", "--model", "deeplabv3", "--backbone", "mobilenet_v2",
        "--attention", "ca", "--backbone_args", backbone, "--data_args", data, "--epochs", "1",
        "--batch", "4", "--model_args", "{aux: true, output_stride: 16}", "--tensorboard", "false",
        "--project", str(tmp_path), "--name", "r", "--device", "cpu",
    ])  # fmt: skip
    assert code == 0
    run = tmp_path / "r"
    with (run / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["train_loss"]) == pytest.approx(
        float(row["train_pixel"]) + float(row["train_aux"]), rel=1e-4
    )
    model, saved = restore(run)
    assert sum(".attention." in k or "after_depthwise" in k for k in model.state_dict()) > 0
    assert saved["facts"]["classes"][:2] == ["background", "0"]
    again = evaluate(run, batch=4, device="cpu")
    assert again["metrics"]["miou"] == pytest.approx(float(row["miou"]), abs=1e-6)
    with (run / "classes.csv").open() as file:
        assert [r["class"] for r in csv.DictReader(file)] == saved["facts"]["classes"]
    assert (run / "predictions.png").stat().st_size > 1000


def test_what_is_refused() -> None:
    data = Segmentation.open_data(CONFIG)
    for change, words in (
        ({"model": "retinanet"}, "--task segmentation has the models deeplabv3, lraspp"),
        ({"backbone": None}, "needs a backbone"),
        ({"model_args": {"rate": 3}}, "no argument 'rate'"),
    ):
        config = TrainConfig(**{**vars(CONFIG), **change})
        with pytest.raises(ArgumentError, match=words):
            Segmentation(config, data)
