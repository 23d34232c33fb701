"""What a step is: the network's mode, pieces of a batch, averaged weights."""

from __future__ import annotations

from pathlib import Path

from toy import ToyTask

from convattn.core.config import TrainConfig
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder

BASE = TrainConfig(epochs=2, batch=4, device="cpu", threads=1, tensorboard=False)


def test_every_step_trains_in_training_mode(tmp_path: Path) -> None:
    """Also behind an evaluation, which puts the same network into its other mode."""
    task = ToyTask()
    modes = []

    class Modes(SilentReporter):
        def step(self, done: int, loss: float) -> None:
            modes.append({module.training for module in task.model.modules()})

    fit(task, BASE, RunFolder(tmp_path), Modes())
    assert modes == [{True}] * 12
