"""A small task that can fail a resume test: distinct, shuffled, augmented samples, dropout, batch
norm, a ragged last batch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from convattn.blocks import create_block
from convattn.core.config import TrainConfig
from convattn.core.seeds import derive, seeded
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder

BASE = TrainConfig(
    epochs=3, batch=4, lr=0.05, schedule="cosine", warmup_epochs=0.5, device="cpu", threads=1,
    save_minutes=0.0, tensorboard=False,
)  # fmt: skip
SIZE = 22  # with batch 4: five whole batches and one of two


def sample(index: int) -> tuple[Tensor, int]:
    with seeded(derive(0, "toy", index)):
        label = index % 3
        return torch.randn(3, 6, 5) + 0.8 * label, label


class ToyTrain(Dataset[Any]):
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> Any:  # type: ignore[override]
        epoch, index = key
        x, label = sample(index)
        with seeded(derive(self.seed, "augment", epoch, index)):
            x = x + 0.1 * torch.randn_like(x)
        return x, torch.tensor(label), torch.tensor(index)


class ToyTest(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        x, label = sample(1000 + index)
        return x, torch.tensor(label), torch.tensor(index)


class ToyTask:
    metric = "top1"
    fingerprint = "toy"
    train_size = SIZE

    def __init__(self, seed: int = 0, poison: tuple[int, float] | None = None) -> None:
        with seeded(derive(seed, "weights")):
            self.model = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                create_block("ca", 8),
                nn.Dropout(0.2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 3),
            )
        self.train_set, self.test_set = ToyTrain(seed), ToyTest()
        self.facts: dict[str, Any] = {"task": "toy"}
        self.poison = poison

    @property
    def parameters(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "scale": 1.0}]

    def collate(self, samples: list[Any]) -> Any:
        return tuple(map(torch.stack, zip(*samples, strict=True)))

    def batch_size(self, batch: Any) -> int:
        return len(batch[1])

    def sample_ids(self, batch: Any) -> Sequence[str]:
        return [f"toy/{i}" for i in batch[2].tolist()]

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, labels, indices = batch
        if self.poison is not None:
            index, value = self.poison
            x = x.masked_fill((indices == index).view(-1, 1, 1, 1), value)
        return F.cross_entropy(model(x), labels)

    def evaluate(self, model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        right = total = 0
        for x, labels, _ in batches:
            right += int((model(x).argmax(1) == labels).sum())
            total += len(labels)
        return {"top1": right / total}


def whole_run(config: TrainConfig, folder: Path) -> str:
    run = RunFolder(folder)
    fit(ToyTask(config.seed), config, run, SilentReporter())
    return fingerprint_of(run)


def fingerprint_of(run: RunFolder) -> str:
    """Every bit of the newest checkpoint that is not a time or a fact about the machine."""
    state, problems = run.latest()
    assert state is not None
    assert not problems
    digest = hashlib.sha256()

    def add(value: Any, name: str = "") -> None:
        if name in ("seconds", "bits", "config"):
            return
        if isinstance(value, Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                digest.update(str(key).encode())
                add(value[key], str(key))
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            assert value is None or isinstance(value, int | float | str)
            assert not (isinstance(value, float) and math.isnan(value))
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()
