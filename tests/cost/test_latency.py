"""Timing takes turns, reports quartiles and leaves everything as it was."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn.core.errors import ArgumentError, InputError
from convattn.cost import measure, measure_one

SIZE = (2, 3, 4, 4)


class Clocked(nn.Module):
    """Takes `start` seconds on a clock of its own, and one more with each call."""

    def __init__(self, name: str, start: float, clock: list[float], log: list[str]) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.name, self.seconds, self.clock, self.log = name, start, clock, log
        self.states: set[tuple[bool, bool, int]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(self.name)
        state = (self.training, torch.is_inference_mode_enabled(), torch.get_num_threads())
        self.states.add(state)
        self.clock[0] += self.seconds
        self.seconds += 1
        return self.bn(x)


def test_models_take_turns_and_quartiles_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], []
    monkeypatch.setattr("convattn.cost.latency.time.perf_counter", lambda: clock[0])
    models = {"a": Clocked("a", 1, clock, log), "b": Clocked("b", 100, clock, log)}
    found = measure(models, SIZE, seconds=250, warmup=2, threads=2)
    # one trial and two rounds of warm-up; then 500 seconds are over within the fifth round
    assert log == list("ababab" + "abbaabbaab")
    a, b = found["a"], found["b"]
    assert (a.low, a.median, a.high) == (5000, 6000, 7000)  # of 4, 5, 6, 7, 8 seconds
    assert (b.low, b.median, b.high) == (104000, 105000, 106000)
    for name, latency in found.items():
        assert (latency.runs, latency.warmup, latency.batch, latency.threads) == (5, 3, 2, 2)
        assert latency.device == "cpu"
        assert models[name].states == {(False, True, 2)}
    assert str(a).startswith(
        "6000 ms (quartiles 5000 to 7000, 5 runs after 3 of warm-up, batch 2, cpu, 2 threads"
    )


def test_time_is_in_milliseconds() -> None:
    class Sleeper(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.01)
            return x

    assert 10 <= measure_one(Sleeper(), SIZE, seconds=0.01, warmup=0).low < 1000


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such size")


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before(fails: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout())
    model[1].eval()
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    buffers = {k: v.clone() for k, v in model.state_dict().items()}
    if fails:
        with pytest.raises(InputError, match=r"bad \(Failing\).*\(2, 3, 4, 4\).*no such") as caught:
            measure({"good": model, "bad": Failing()}, SIZE, threads=threads + 1)
        assert isinstance(caught.value.__cause__, RuntimeError)
    else:
        assert measure_one(model, SIZE, seconds=0.01, threads=threads + 1).threads == threads + 1
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.get_num_threads() == threads
    assert gc.isenabled()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(v, buffers[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"threads": 0}, "threads"),
        ({"seconds": 0}, "seconds"),
        ({"warmup": -1}, "warmup"),
        ({"input_size": (3, 0)}, "input_size"),
        ({"models": {}}, "at least one"),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"models": {"a": nn.Identity()}, "input_size": SIZE} | changed
    with pytest.raises(ArgumentError, match=match):
        measure(**arguments)
