"""What a step is: the network's mode, pieces of a batch, averaged weights."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
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


class InParts(ToyTask):
    """The loss of the toy as two parts of it."""

    def loss(self, model: nn.Module, batch: Any) -> Any:
        whole = super().loss(model, batch)
        return {"near": 0.25 * whole, "far": 0.75 * whole}


def rows(task: ToyTask, config: TrainConfig, folder: Path) -> list[dict[str, Any]]:
    fit(task, config, RunFolder(folder), SilentReporter())
    state, _ = RunFolder(folder).latest()
    assert state is not None
    return state["history"]


def test_a_loss_in_parts_is_their_sum_and_each_is_told(tmp_path: Path) -> None:
    whole = rows(ToyTask(), BASE, tmp_path / "whole")
    parts = rows(InParts(), replace(BASE, accumulate=2), tmp_path / "parts")
    for one, two in zip(whole, rows(InParts(), BASE, tmp_path / "again"), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["train_near"] == pytest.approx(0.25 * one["train_loss"], rel=1e-5)
        assert two["train_far"] == pytest.approx(0.75 * one["train_loss"], rel=1e-5)
        assert list(two)[2:5] == ["train_loss", "train_near", "train_far"]
    assert parts[0]["train_loss"] == pytest.approx(
        parts[0]["train_near"] + parts[0]["train_far"], rel=1e-6
    )


def test_an_epoch_without_a_finite_step_has_no_training_loss(tmp_path: Path) -> None:
    class Poisoned(ToyTask):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * math.nan

    config = replace(BASE, epochs=1, on_nonfinite="skip")
    assert "train_loss" not in rows(Poisoned(), config, tmp_path)[0]
    with (tmp_path / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert "train_loss" not in row  # not 0, which would be the best of all
    half = rows(ToyTask(poison=(5, math.nan)), config, tmp_path / "half")
    assert half[0]["train_loss"] > 0
