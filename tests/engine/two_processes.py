"""One run in float64, alone or as one of the processes that torchrun started; see test_split.py.

torchrun --nproc_per_node 2 two_processes.py FOLDER FIELDS [poison]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from toy import ToyTask, ToyTest, ToyTrain

from convattn.blocks import create_block
from convattn.core.config import TrainConfig
from convattn.core.seeds import derive, seeded
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder


class Doubled:
    """A toy set with images in float64."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Any) -> Any:
        x, label, index = self.samples[key]
        return x.double(), label, index


class IndependentTask(ToyTask):
    """No sample's output depends on its batch, nothing is drawn at random: equality is exact."""

    def __init__(
        self, size: int, poison: tuple[int, float] | None = None, parts: bool = False
    ) -> None:
        super().__init__(poison=poison)
        self.parts = parts
        with seeded(derive(0, "weights")):
            self.model = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1),
                nn.GroupNorm(2, 8),
                nn.ReLU(),
                create_block("eca", 8),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 3),
            ).double()
        self.train_set, self.test_set = Doubled(ToyTrain(0)), Doubled(ToyTest())  # type: ignore
        self.train_size = size

    def evaluate(self, model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """The loss too, which sees every bit of the weights."""
        kept = list(batches)
        loss = sum(float(nn.functional.cross_entropy(model(x), y)) for x, y, _ in kept)
        return super().evaluate(model, kept) | {"loss": loss}

    def loss(self, model: nn.Module, batch: Any) -> Any:
        loss = super().loss(model, batch)
        assert loss.dtype == torch.float64
        return {"near": 0.25 * loss, "far": 0.75 * loss} if self.parts else loss


class Notes(SilentReporter):
    """Kills a process with SIGTERM behind a step, if asked for."""

    def __init__(self, kill: int | None) -> None:
        self.kill = kill

    def step(self, done: int, loss: float) -> None:
        if done == self.kill and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), 15)


def run(
    folder: Path,
    size: int = 21,
    kill: int | None = None,
    other: str | None = None,
    **fields: Any,
) -> None:
    """A run; the second process has "other" data, or another folder."""
    fixed: dict[str, Any] = {"epochs": 3, "batch": 4, "device": "cpu", "threads": 1,
                             "tensorboard": False, "clip_grad": 0.5, "ema": 0.9}  # fmt: skip
    poison, parts = fields.pop("poison", None), fields.pop("parts", False)
    task = IndependentTask(size, tuple(poison) if poison else None, parts)
    first = os.environ.get("RANK", "0") == "0"
    if other == "data":
        task.fingerprint = f"toy of process {os.environ['RANK']}"
    if other == "folder" and not first:
        folder = folder.with_name("elsewhere")
    with RunFolder(folder).locked() if first else nullcontext():
        fit(task, TrainConfig(**{**fixed, **fields}), RunFolder(folder), Notes(kill))


if __name__ == "__main__":
    for each in json.loads(sys.argv[1]):
        try:
            run(Path(each.pop("folder")), **each)
        except BaseException as error:
            where = Path(sys.argv[2], f"error-{os.environ.get('RANK')}.txt")
            with where.open("a") as file:
                file.write(f"{type(error).__name__}: {error}\n")
