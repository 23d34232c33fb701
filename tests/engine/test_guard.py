"""A NaN or infinity, wherever it comes from: named, and not a byte of the run is touched by it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import ToyTask, fingerprint_of

from convattn.core.config import TrainConfig
from convattn.core.errors import NonFiniteError
from convattn.core.files import load_checkpoint
from convattn.engine.guard import BufferSnapshot, first_non_finite
from convattn.engine.loop import SKIP_LIMIT, _Trainer, fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder

BASE = TrainConfig(
    epochs=3, batch=4, accumulate=2, lr=0.05, ema=0.9, device="cpu", threads=1, tensorboard=False,
)  # fmt: skip
PER_EPOCH = 6
BAD = 8  # the step, from 0, that goes wrong: epoch 2, step 3


class Explodes(torch.autograd.Function):
    """The identity with a gradient of NaN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.nan


class Task(ToyTask):
    """Goes wrong while it is armed."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.armed = fault, False
        self.model[0].register_forward_hook(self._explode)

    def _explode(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        if not self.armed or self.fault != "gradient":
            return output
        return Explodes.apply(output)  # type: ignore[no-untyped-call]

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, labels, indices = batch
        if not self.armed:
            return super().loss(model, batch)
        if self.fault == "pixel":
            x = x.clone()
            x[0, 1, 2, 3] = math.nan
        elif self.fault == "infinite pixel":
            x = x.clone()
            x[-1, 0, 0, 0] = math.inf
        elif self.fault == "overflow":
            x = x.sign() * 3e38  # finite; the first sum is not
        elif self.fault == "loss":
            return super().loss(model, batch) * math.inf
        return super().loss(model, (x, labels, indices))


def bytes_of(trainer: _Trainer) -> dict[str, bytes]:
    """All parameters, buffers, optimiser values and averages, and the counters."""
    found: dict[str, bytes] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found[name] = value.contiguous().numpy().tobytes()
        elif isinstance(value, dict):
            for key, item in value.items():
                add(f"{name}.{key}", item)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                add(f"{name}.{number}", item)
        else:
            found[name] = repr(value).encode()

    dumped = trainer.state.dump()
    dumped.pop("seconds")
    add("state", dumped)
    return found


class Notes(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Arm(Notes):
    """Arms the task's fault in some steps."""

    def __init__(self, act: Callable[[int], None]) -> None:
        super().__init__()
        self.act = act

    def start(self, total: int, done: int) -> None:
        self.act(done)

    def step(self, done: int, loss: float) -> None:
        self.act(done)


FAULTS = {
    "pixel": ("loss is nan", "the input of 0"),
    "infinite pixel": ("loss is nan", "the input of 0"),
    "overflow": ("loss is nan", "the output of 0"),
    "weight": ("loss is nan", "the weights of 7"),
    "gradient": ("gradient norm is nan", r"the gradient of 0\.bias"),
    "loss": ("loss is inf", "the loss"),
}


@pytest.mark.parametrize(
    ("fault", "precision"),
    [
        (fault, precision)
        for fault in FAULTS
        for precision in ("fp32", "bf16", "fp16")
        if (fault, precision) != ("gradient", "fp16")  # the scaler's business, see below
    ],
)
def test_stop_leaves_every_byte_as_before_the_step(
    fault: str, precision: str, tmp_path: Path
) -> None:
    config = replace(BASE, precision=precision)  # type: ignore[arg-type]
    task = Task(fault)
    before: dict[str, bytes] = {}

    def arm(step: int) -> None:
        if step == BAD:
            task.armed = True
            if fault == "weight":
                with torch.no_grad():
                    task.model[7].weight[1, 2] = math.nan
            before.update(bytes_of(trainer))

    reporter = Arm(arm)
    trainer = _Trainer(task, config, RunFolder(tmp_path), reporter)
    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    what, where = FAULTS[fault]
    ids = [f"toy/{i}" for piece in trainer.order.pieces(BAD) for _, i in piece]
    text = str(caught.value)
    assert text.startswith(f"{what} at epoch 2, step 3 of 6 (samples {', '.join(ids)}).")
    assert re.search(rf"First non-finite: {where}\.", text)
    assert str(tmp_path) in text
    assert bytes_of(trainer) == before
    assert not reporter.notes
    # what is on the disk is that state
    saved, problems = RunFolder(tmp_path).latest()
    assert saved is not None
    assert not problems
    assert saved["step"] == BAD
    fresh = _Trainer(ToyTask(), config, RunFolder(tmp_path), SilentReporter())
    assert bytes_of(fresh) == before
    dump = load_checkpoint(tmp_path / f"nonfinite_step_{BAD}.pt")
    assert dump["step"] == BAD
    assert dump["samples"] == ids
    assert not math.isfinite(dump["loss"]) or not math.isfinite(dump["gradient_norm"])


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    fit(ToyTask(), BASE, RunFolder(tmp_path / "whole"), SilentReporter())
    run = RunFolder(tmp_path / "stopped")
    task = Task("pixel")

    def arm(step: int) -> None:
        task.armed = step == BAD

    with pytest.raises(NonFiniteError):
        fit(task, BASE, run, Arm(arm))
    fit(ToyTask(), BASE, run, SilentReporter())
    assert fingerprint_of(run) == fingerprint_of(RunFolder(tmp_path / "whole"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("fault", ["pixel", "overflow", "loss"])
def test_skip_leaves_the_step_out_and_counts_it(fault: str, precision: str, tmp_path: Path) -> None:
    config = replace(BASE, precision=precision, on_nonfinite="skip")  # type: ignore[arg-type]
    task, states = Task(fault), {}

    def arm(step: int) -> None:
        task.armed = step in (BAD, BAD + 2)
        states[step] = bytes_of(trainer)

    reporter = Arm(arm)
    run = RunFolder(tmp_path)
    trainer = _Trainer(task, config, run, reporter)
    last = trainer.train()
    counters = {f"state.{name}" for name in ("step", "skipped", "skipped_in_row")}
    for bad in (BAD, BAD + 2):
        changed = {k for k in states[bad] if states[bad][k] != states[bad + 1][k]}
        assert changed == counters
        after = {k for k in states[bad] if states[bad + 1][k] != states[bad + 2][k]}
        assert "state.model.0.weight" in after  # it goes on
    assert trainer.state.skipped == 2
    assert trainer.state.skipped_in_row == 0
    assert len(reporter.notes) == 2
    assert "epoch 2, step 3 of 6" in reporter.notes[0]
    assert reporter.notes[1].endswith("Step left out (2 so far).")
    assert last["epoch"] == 3
    assert all(math.isfinite(v) for v in last.values())
    assert not list(tmp_path.glob("nonfinite*"))
    saved, _ = run.latest()
    assert saved is not None
    assert saved["skipped"] == 2


def test_skip_gives_up_behind_the_limit_in_a_row(tmp_path: Path) -> None:
    config = replace(BASE, on_nonfinite="skip")
    task = Task("pixel")

    def arm(step: int) -> None:
        task.armed = step >= 3

    reporter = Arm(arm)
    with pytest.raises(NonFiniteError, match=r"epoch 3, step 2 of 6") as caught:
        fit(task, config, RunFolder(tmp_path), reporter)
    assert "saved in" in str(caught.value)
    assert "10 steps before it were left out. A lower --lr" in str(caught.value)
    assert "--on_nonfinite" not in str(caught.value)  # that was asked for
    assert len(reporter.notes) == SKIP_LIMIT == 10
    saved, _ = RunFolder(tmp_path).latest()
    assert saved is not None
    assert saved["step"] == 3 + SKIP_LIMIT
    # a resumed run does not start to count anew
    with pytest.raises(NonFiniteError, match=r"epoch 3, step 2 of 6"):
        fit(task, config, RunFolder(tmp_path), SilentReporter())


def test_an_overflowing_half_precision_gradient_is_the_scalers_business(tmp_path: Path) -> None:
    """One such step lowers the scale and moves no weight; without end it is an error."""
    config = replace(BASE, precision="fp16", ema=0.0)
    task, states = Task("gradient"), {}

    def arm(step: int) -> None:
        task.armed = step == BAD
        states[step] = bytes_of(trainer)

    reporter = Arm(arm)
    trainer = _Trainer(task, config, RunFolder(tmp_path / "once"), reporter)
    trainer.train()
    changed = {k for k in states[BAD] if states[BAD][k] != states[BAD + 1][k]}
    assert "state.scaler.scale" in changed
    assert "state.model.0.weight" not in changed
    assert not any(k.startswith("state.optimizer.state") for k in changed)

    def always(step: int) -> None:
        task.armed = True

    trainer = _Trainer(task, config, RunFolder(tmp_path / "always"), Arm(always))
    with pytest.raises(NonFiniteError, match="gradient norm is nan"):
        trainer.train()


def test_clipping_keeps_to_the_limit_and_the_norm_is_that_before_it(tmp_path: Path) -> None:
    moves = {}
    for limit in (0.0, 1e-3):
        config = replace(BASE, clip_grad=limit, momentum=0.0, weight_decay=0.0, epochs=1)
        task = ToyTask()
        before = [p.detach().clone() for p in task.model.parameters()]
        trainer = _Trainer(task, config, RunFolder(tmp_path / str(limit)), SilentReporter())
        trainer._step(trainer._pieces(0))
        after = [p.detach() for p in task.model.parameters()]
        steps = [(b - a).flatten() / 0.05 for b, a in zip(before, after, strict=True)]
        moves[limit] = torch.cat(steps)
    whole, clipped = moves[0.0], moves[1e-3]
    assert float(clipped.norm()) == pytest.approx(1e-3, rel=2e-3)
    cosine = torch.dot(whole, clipped) / whole.norm() / clipped.norm()
    assert float(cosine) == pytest.approx(1, abs=1e-3)
    assert whole.norm() > 0.01


def test_first_non_finite_names_the_first_of_several() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 2))
    x = torch.ones(2, 3)
    assert first_non_finite(model, lambda: model(x)) == ""
    with torch.no_grad():
        model[3].bias[0] = math.inf
        model[2].weight[0, 0] = math.nan
    assert first_non_finite(model, lambda: model(x)) == "the weights of 2"
    assert not any(module._forward_hooks for module in model.modules())
    assert first_non_finite(model, lambda: model(x / 0)) == "the input of 0"


def test_buffers_come_back() -> None:
    model = nn.BatchNorm2d(3)
    snapshot = BufferSnapshot(model)
    model(torch.randn(4, 3, 2, 2))
    expected = {name: b.clone() for name, b in model.named_buffers()}
    snapshot.take()
    model(torch.full((4, 3, 2, 2), math.nan))
    assert model.running_mean is not None
    assert not torch.isfinite(model.running_mean).any()
    snapshot.restore()
    assert all(torch.equal(b, expected[name]) for name, b in model.named_buffers())
