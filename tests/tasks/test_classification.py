"""Classification: it learns, its numbers are right, a weights file rebuilds the network alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as vision

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, CheckpointError, DataError
from convattn.core.files import load_checkpoint, save_checkpoint
from convattn.core.seeds import derive, draw_from, seeded
from convattn.data.classification import ClassificationData, open_classification
from convattn.engine.loop import fit
from convattn.engine.order import Order
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.tasks.classification import Batch, Classification
from convattn.tasks.kinds import restore
from convattn.tasks.plots import write_confusion, write_curves
from convattn.tasks.train import evaluate, train
from convattn.tasks.transforms import normalise, test_transform, train_transform

test_transform.__test__ = False  # type: ignore[attr-defined]  # a function, not a test

TINY = TrainConfig(
    model_args={"width_mult": 0.1}, batch=8, epochs=1, device="cpu", threads=1, tensorboard=False,
    augment="none",
)  # fmt: skip


@dataclass
class Images:
    """Labelled images in memory."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        return self.pixels[index]

    def sample_id(self, index: int) -> str:
        return f"image-{index}"


def textures(count: int, classes: int = 2, seed: int = 0, side: int = 32) -> Images:
    """Noise whose stripes tell the class: learnt through pooling, and by no single pixel."""
    with seeded(derive(seed, "textures")):
        labels = torch.arange(count) % classes
        noise = torch.randint(0, 120, (count, 3, side, side))
        phase = torch.randint(0, 4, (count,))
    ramp = torch.arange(side)
    for i in range(count):
        rows, columns = torch.meshgrid(ramp, ramp, indexing="ij")
        line = (rows, columns, rows + columns, rows - columns)[int(labels[i])]
        noise[i] += 120 * ((line + int(phase[i])) % 4 < 2)
    return Images(noise.to(torch.uint8), labels)


def data_of(train: Images, test: Images, classes: int = 2) -> ClassificationData:
    names = tuple(f"class {chr(97 + i)}" for i in range(classes))
    return ClassificationData("textures", train, test, names, "fingerprint", image_size=32)


def task_of(config: TrainConfig, classes: int = 2, count: int = 16) -> Classification:
    sets = textures(count, classes), textures(count, classes, 1)
    return Classification(config, data_of(*sets, classes))


# --- learning -----------------------------------------------------------------------------------

LEARN = replace(
    TINY, epochs=60, optimizer="adamw", lr=0.01, schedule="cosine", weight_decay=0.0,
    attention="ca", eval_every=60,
)  # fmt: skip


def history(task: Classification, config: TrainConfig, folder: Path) -> list[dict[str, Any]]:
    fit(task, config, RunFolder(folder), SilentReporter())
    state, _ = RunFolder(folder).latest()
    assert state is not None
    return state["history"]


def test_eight_images_are_learnt_by_heart(tmp_path: Path) -> None:
    images = textures(8, 4)
    images.labels = images.labels[torch.randperm(8)]  # nothing but memory helps
    task = Classification(LEARN, data_of(images, images, 4))
    rows = history(task, LEARN, tmp_path)
    assert rows[-1]["train_loss"] < 0.01 * rows[0]["train_loss"]
    assert rows[0]["train_loss"] == pytest.approx(math.log(4), abs=0.7)  # from chance


def test_textures_generalise_and_shuffled_labels_do_not(tmp_path: Path) -> None:
    config = replace(
        LEARN, epochs=10, eval_every=10, batch=16, attention_init="identity",
        model_args={"width_mult": 0.25, "strides": [2, 1, 1, 2, 2, 1, 1, 1]},
    )  # fmt: skip
    train_images, test_images = textures(96), textures(60, seed=1)
    real = history(
        Classification(config, data_of(train_images, test_images)), config, tmp_path / "real"
    )
    assert real[-1]["top1"] > 0.9
    with seeded(3):
        train_images.labels = torch.randint(0, 2, (96,))
    task = Classification(config, data_of(train_images, test_images))
    control = history(task, config, tmp_path / "control")
    assert abs(control[-1]["top1"] - 0.5) < 0.2  # three deviations of 60 coins


# --- metrics ------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Answers with given logits, batch after batch."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.at = logits, 0

    def forward(self, x: Tensor) -> Tensor:
        self.at += len(x)
        return self.logits[self.at - len(x) : self.at]


def batches_of(labels: Tensor, sizes: list[int]) -> list[Batch]:
    return [
        Batch(torch.zeros(len(part), 3, 4, 4, dtype=torch.uint8), part, torch.arange(len(part)))
        for part in labels.split(sizes)
    ]


def test_metrics_are_those_counted_by_hand() -> None:
    task = task_of(TINY, classes=3)
    # rows: right, right, wrong (2 for 0), wrong (0 for 2), right
    logits = torch.tensor(
        [[2.0, 1, 0], [0, 3, 0], [0, 1, 5], [4, 0, 0], [0, 0, 1]], dtype=torch.float64
    )
    labels = torch.tensor([0, 1, 0, 2, 2])
    found = task.evaluate(Fixed(logits), batches_of(labels, [2, 2, 1]))
    chosen = [2.0, 3, 0, 0, 1]
    losses = [
        math.log(sum(math.exp(v) for v in row)) - c
        for row, c in zip(logits.tolist(), chosen, strict=True)
    ]
    assert set(found) == {"loss", "top1"}  # of three classes, five are no measure
    assert found["top1"] == 3 / 5
    assert found["loss"] == pytest.approx(sum(losses) / 5, rel=1e-6)
    assert task.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_top5_counts_the_first_five() -> None:
    data = data_of(textures(4), textures(4))
    task = Classification(TINY, replace(data, classes=tuple("abcdefgh")))
    logits = torch.arange(8.0).repeat(4, 1)  # ranked 7, 6, 5, 4, 3 | 2, 1, 0
    found = task.evaluate(Fixed(logits), batches_of(torch.tensor([7, 3, 2, 0]), [3, 1]))
    assert found["top1"] == 1 / 4
    assert found["top5"] == 2 / 4
    assert int(task.confusion.sum()) == 4
    assert task.confusion[:, 7].tolist() == [1, 0, 1, 1, 0, 0, 0, 1]


def test_the_order_and_size_of_batches_do_not_matter() -> None:
    task = task_of(TINY, classes=4)
    logits, labels = torch.randn(23, 4), torch.randint(0, 4, (23,))
    whole = task.evaluate(Fixed(logits), batches_of(labels, [23]))
    confusion = task.confusion
    order = torch.randperm(23)
    other = task.evaluate(Fixed(logits[order]), batches_of(labels[order], [5, 9, 9]))
    assert other == pytest.approx(whole, rel=1e-6)
    assert torch.equal(task.confusion, confusion)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_is_the_closed_formula(smoothing: float) -> None:
    """(1 - e) * cross entropy + e * mean over classes of -log p."""
    task = task_of(replace(TINY, label_smoothing=smoothing), classes=4)
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.randint(0, 4, (6,))
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    expected = -(1 - smoothing) * logs[range(6), labels].mean() - smoothing * logs.mean()
    found = task.loss(Fixed(logits), batches_of(labels, [6])[0])
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


# --- mixing -------------------------------------------------------------------------------------


class Records(nn.Module):
    """Keeps what it was given."""

    def forward(self, x: Tensor) -> Tensor:
        self.images = x
        return torch.zeros(len(x), 4, requires_grad=True)


@pytest.mark.parametrize(
    ("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)], ids=["mixup", "cutmix", "both"]
)
def test_mixing_is_keyed_by_seed_and_step_and_keeps_label_mass(
    mixup: float, cutmix: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(replace(TINY, mixup=mixup, cutmix=cutmix), classes=4)
    batch = task.collate([task.train_set[0, i] for i in range(8)])
    labels: list[Tensor] = []
    real = F.cross_entropy

    def watched(logits: Tensor, target: Tensor, **how: Any) -> Tensor:
        labels.append(target)
        return real(logits, target, **how)

    monkeypatch.setattr("convattn.tasks.classification.F.cross_entropy", watched)

    def mixed(seed: int, step: int) -> tuple[Tensor, Tensor]:
        net = Records()
        draw_from(derive(seed, "step", step, 0, 0))
        task.loss(net, batch)
        return net.images, labels[-1]

    images, target = mixed(0, 3)
    again, same = mixed(0, 3)
    assert torch.equal(images, again)
    assert torch.equal(target, same)
    assert not torch.equal(mixed(0, 4)[0], images)
    assert not torch.equal(mixed(1, 3)[0], images)
    whole = normalise(batch.images)
    hard = F.one_hot(batch.labels, 4).float()
    for step in range(20):
        images, target = mixed(0, step)
        assert torch.allclose(target.sum(1), torch.ones(8))
        assert (target >= 0).all()
        # each row is a mixture of its own label and that of its partner, the one before it
        own = (images - whole).abs().flatten(2).sum((1, 2)) / (
            (whole.roll(1, 0) - whole).abs().flatten(2).sum((1, 2))
        )
        assert torch.allclose(
            target, (hard.T * (1 - own)).T + (hard.roll(1, 0).T * own).T, atol=0.2
        )
    assert batch.images.dtype == torch.uint8  # the data are as before


# --- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ["light", "flip", "imagenet"])
def test_augmentation_is_a_function_of_seed_epoch_and_sample(augment: str) -> None:
    config = replace(TINY, augment=augment)  # type: ignore[arg-type]
    task = task_of(config)
    order = Order(16, 5, seed=0)

    def images(workers: int) -> dict[tuple[int, int], Tensor]:
        keys = list(order.from_step(0, 8))
        loader = DataLoader(
            task.train_set, batch_sampler=keys, collate_fn=task.collate, num_workers=workers
        )  # type: ignore[arg-type]
        torch.manual_seed(workers)
        found = {}
        for batch, wanted in zip(loader, keys, strict=True):
            for image, key in zip(batch.images, wanted, strict=True):
                found[key] = image
        return found

    alone, shared = images(0), images(2)
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[key], shared[key]) for key in alone)
    changed = [not torch.equal(alone[0, i], alone[1, i]) for i in range(16)]
    assert sum(changed) >= 12  # epochs differ
    other = task_of(replace(config, seed=1))
    differ = [not torch.equal(other.train_set[0, i][0], alone[0, i]) for i in range(16)]
    assert sum(differ) >= 12


def test_light_shifts_by_at_most_an_eighth() -> None:
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    shift = train_transform("light", 32, True)
    padded = vision.pad(image, [4, 4, 4, 4], padding_mode="reflect")
    corners = {(y, x): padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)}
    seen = set()
    for _ in range(60):
        found = shift(image)
        seen |= {at for at, crop in corners.items() if torch.equal(crop, found)}
        assert any(torch.equal(crop, found) for crop in corners.values())
    assert len(seen) > 20


def test_mirror_only_mirrors() -> None:
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    mirror = train_transform("mirror", 32, True)
    found = [mirror(image) for _ in range(20)]
    mirrored = [torch.equal(each, image.flip(2)) for each in found]
    assert 0 < sum(mirrored) < 20
    assert all(same or torch.equal(each, image) for each, same in zip(found, mirrored, strict=True))


SHAPES = [(40, 60), (61, 33), (8, 8), (7, 90), (1, 1), (256, 256), (224, 300)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("augment", ["none", "mirror", "light", "flip", "imagenet"])
@pytest.mark.parametrize("size", [24, 8])
def test_any_photo_becomes_the_right_size(shape: tuple[int, int], augment: str, size: int) -> None:
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    for transform in (train_transform(augment, size, False), test_transform(size, False)):
        found = transform(image)
        assert found.shape == (3, size, size)
        assert found.dtype == torch.uint8


@pytest.mark.parametrize("augment", ["none", "mirror", "light", "flip"])
@pytest.mark.parametrize("side", [1, 2, 7, 9])
def test_tiny_images_of_the_data_keep_their_size(side: int, augment: str) -> None:
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
    assert train_transform(augment, side, True)(image).shape == image.shape


def test_the_test_crop_is_the_middle_seven_eighths() -> None:
    """A 64 x 96 picture at 56: resized to 64 x 96, that is not at all, then cut."""
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    assert torch.equal(test_transform(56, False)(image), image[:, 4:60, 20:76])
    assert torch.equal(test_transform(64, True)(image), image)


def test_normalise_is_torchvisions() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    expected = vision.normalize(
        vision.to_dtype(images, torch.float32, scale=True),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )
    assert torch.allclose(normalise(images), expected, atol=2e-6)


# --- whole runs ---------------------------------------------------------------------------------


def photos(root: Path, classes: tuple[str, ...] = ("cat", "$do^g"), count: int = 5) -> Path:
    """A tree of photographs of odd sizes."""
    torch.manual_seed(3)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(count):
            height, width = 20 + 7 * k, 31 + 3 * number + k
            pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ca": {"attention": "ca", "attention_args": {"reduction": 4, "axes": "h"},
           "attention_init": "identity"},
    "averaged": {"attention": "eca", "ema": 0.5},
    "bf16": {"attention": "se", "precision": "bf16", "channels_last": True},
    "adamw": {"attention": "cbam", "optimizer": "adamw", "model_args": {"width_mult": 0.2}},
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_weights_file_alone_rebuilds_the_trained_network(name: str, tmp_path: Path) -> None:
    config = replace(
        TINY, data="scenes", data_args={"train_count": 40, "test_count": 30, "size": 32},
        epochs=2, label_smoothing=0.1, **RUNS[name],
    )  # fmt: skip
    run = RunFolder(tmp_path / "run")
    summary = train(config, run, SilentReporter())
    # the file is all that is left
    alone = tmp_path / "alone.pt"
    (run.path / "weights" / "last.pt").rename(alone)
    model, saved = restore(alone)
    assert not model.training
    assert saved["facts"]["classes"] == [str(i) for i in range(10)]
    init = config.attention_init
    if config.attention != "none":
        network = saved["facts"]["network"]
        assert network["attention_init"] == ("authors" if init == "auto" else init)
    assert saved["config"]["lr"] == config.lr
    weights = load_checkpoint(alone)["model"]
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    found = evaluate(alone, batch=8, device="cpu")
    assert found["images"] == 30
    assert found["metrics"] == pytest.approx(summary["metrics"], rel=1e-5)
    assert summary["metrics"].keys() == {"loss", "top1", "top5"}
    best = max(summary["history"], key=lambda row: row["top1"])
    assert load_checkpoint(run.path / "weights" / "best.pt")["metrics"] == best
    assert evaluate(run.path, batch=30, device="cpu")["metrics"]["top1"] == best["top1"]


def test_a_finished_run_resumed_stays_as_it_is(tmp_path: Path) -> None:
    config = replace(
        TINY, data_args={"train_count": 40, "test_count": 30, "size": 32}, tensorboard=True
    )
    run = RunFolder(tmp_path)
    first = train(config, run, SilentReporter())
    kept = {
        name: (tmp_path / name).read_bytes()
        for name in ("results.csv", "weights/last.pt", "weights/best.pt", "args.yaml",
                     "confusion_matrix.png", "results.png")
    }  # fmt: skip
    again = train(config, run, SilentReporter())
    assert again == first
    for name, content in kept.items():
        assert (tmp_path / name).read_bytes() == content, name
    assert list((tmp_path / "tensorboard").iterdir())


def test_photographs_of_odd_sizes_train_and_evaluate(tmp_path: Path) -> None:
    config = replace(
        TINY, data=str(photos(tmp_path / "data")), imgsz=32, augment="imagenet", attention="ca"
    )
    run = RunFolder(tmp_path / "run")
    summary = train(config, run, SilentReporter())
    assert summary["data"]["classes"] == ["$do^g", "cat"]
    assert summary["data"]["train"] == 8
    assert evaluate(run.path, device="cpu")["metrics"] == pytest.approx(
        summary["metrics"], rel=1e-5
    )
    assert (run.path / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    # other data: the network sees them in the size that it was trained in
    other = photos(tmp_path / "other", count=6)
    assert evaluate(run.path, data=str(other), device="cpu")["images"] == 2
    _, saved = restore(run.path)
    assert saved["facts"]["size"] == 32
    strange = photos(tmp_path / "strange", ("cat", "wolf"))
    with pytest.raises(DataError, match=r"classes cat, wolf.*trained on \$do\^g, cat"):
        evaluate(run.path, data=str(strange), device="cpu")


def test_other_data_are_seen_in_the_size_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    for name in "ab":
        (small / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (24, 24), (k, 9, 200)).save(small / name / f"{k}.png")
    run = RunFolder(tmp_path / "run")
    train(replace(TINY, data=str(small)), run, SilentReporter())
    seen = []
    real = Classification.evaluate

    def watched(self: Classification, model: nn.Module, batches: Any) -> dict[str, float]:
        kept = list(batches)
        seen.extend(tuple(batch.images.shape[1:]) for batch in kept)
        return real(self, model, kept)

    monkeypatch.setattr(Classification, "evaluate", watched)
    evaluate(run.path, data=str(photos(tmp_path / "large", ("a", "b"))), device="cpu")
    assert set(seen) == {(3, 24, 24)}


def test_what_is_not_a_weights_file_is_refused(tmp_path: Path) -> None:
    config = replace(TINY, data_args={"train_count": 16, "test_count": 10, "size": 32})
    run = RunFolder(tmp_path / "run")
    train(config, run, SilentReporter())
    with pytest.raises(CheckpointError, match=r"to resume from.*weights/best\.pt"):
        restore(next((run.path / "checkpoints").iterdir()))
    with pytest.raises(CheckpointError, match="No such file"):
        restore(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        restore(tmp_path)
    saved = load_checkpoint(run.path / "weights" / "last.pt")
    for change in (
        {"facts": {**saved["facts"], "network": {"name": "gone"}}},
        {"facts": {**saved["facts"], "network": {**saved["facts"]["network"], "width_mult": 0.3}}},
        {"model": {}},
    ):
        save_checkpoint(tmp_path / "other.pt", {**saved, **change})
        with pytest.raises(CheckpointError, match=r"other\.pt does not fit") as caught:
            restore(tmp_path / "other.pt")
        assert len(str(caught.value)) < 600
    with pytest.raises(ArgumentError, match="batch must be an integer of at least 1, got 0"):
        evaluate(run.path, batch=0)
    if not torch.cuda.is_available():
        with pytest.raises(ArgumentError, match="device is 'cuda'"):
            evaluate(run.path, device="cuda")


def test_weights_do_not_depend_on_the_generator_or_the_data() -> None:
    torch.manual_seed(1)
    first = task_of(TINY).model.state_dict()
    torch.manual_seed(2)
    again = Classification(TINY, data_of(textures(4), textures(2))).model.state_dict()
    other = task_of(replace(TINY, seed=1)).model.state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    drawn = [k for k in first if first[k].dim() == 4]
    assert drawn
    assert not any(torch.equal(first[k], other[k]) for k in drawn)


def test_sample_ids_are_the_files(tmp_path: Path) -> None:
    data = open_classification(str(photos(tmp_path)))
    task = Classification(replace(TINY, imgsz=32), data)
    batch = task.collate([task.train_set[0, 3], task.train_set[0, 0]])
    assert task.sample_ids(batch) == ["$do^g/3.png", "$do^g/0.png"]


def test_pictures_of_many_classes_and_of_few_rows(tmp_path: Path) -> None:
    write_confusion(
        tmp_path / "a.png", torch.eye(50, dtype=torch.int64), [f"c{i}" for i in range(50)]
    )
    write_confusion(tmp_path / "b.png", torch.zeros(2, 2, dtype=torch.int64), ["$x^", "$$"])
    # a letter in no font is no warning, which would be an error here
    write_confusion(tmp_path / "d.png", torch.zeros(2, 2, dtype=torch.int64), ["猫", "บ"])
    rows = [
        {"epoch": 1, "train_loss": 1.0},
        {"epoch": 2, "train_loss": 0.5, "loss": 1, "top1": 0.3},
    ]
    write_curves(tmp_path / "c.png", rows)
    assert all((tmp_path / f"{n}.png").read_bytes().startswith(b"\x89PNG") for n in "abcd")


def test_number_of_classes_is_the_datas() -> None:
    config = TrainConfig(model_args={"num_classes": 7, "width_mult": 0.1})
    data = open_classification("scenes", train_count=20, test_count=20, size=32)
    with pytest.raises(ArgumentError, match="num_classes 7, but the data decide it"):
        Classification(config, data)
