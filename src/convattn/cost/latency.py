"""Measured latency: models take turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError, InputError
from convattn.cost.count import check_input_size

__all__ = ["Latency", "measure", "measure_one", "noise"]

_MIN_RUNS = 5  # below this there are no quartiles to speak of


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass of a batch.

    Attributes:
        median: in milliseconds.
        low: lower quartile, in milliseconds.
        high: upper quartile, in milliseconds.
        runs: how many passes were timed.
        warmup: how many passes went before, untimed.
        batch: images per pass.
        threads: that torch could use on the CPU.
        device: such as "cpu" or "cuda:0".
    """

    median: float
    low: float
    high: float
    runs: int
    warmup: int
    batch: int
    threads: int
    device: str

    def __str__(self) -> str:
        return (
            f"{_ms(self.median)} ms (quartiles {_ms(self.low)} to {_ms(self.high)}, "
            f"{self.runs} runs after {self.warmup} of warm-up, "
            f"batch {self.batch}, {self.device}, {self.threads} threads)"
        )


def _ms(value: float) -> str:
    """Three significant digits, never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def measure(
    models: Mapping[str, nn.Module],
    input_size: Sequence[int] = (1, 3, 224, 224),
    *,
    threads: int = 1,
    seconds: float = 1.0,
    warmup: int = 3,
) -> dict[str, Latency]:
    """Time models against each other, in eval mode on one batch of noise.

    Each round runs every model once and starts with another one; modes, threads and the garbage
    collector are as before afterwards, also on an error.

    Args:
        models: by name.
        input_size: of the batch, such as (1, 3, 224, 224).
        threads: for torch on the CPU.
        seconds: of timing per model; at least 5 rounds are run.
        warmup: rounds that are not timed.

    Raises:
        ArgumentError: an argument out of range.
        InputError: a model fails on this size; the cause is chained.
    """
    size = check_input_size("measure", input_size)
    check_positive("measure", "threads", threads)
    if not isinstance(models, Mapping) or not models:
        raise ArgumentError("measure: models must name at least one, such as {'ca': model}")
    if not seconds > 0:
        raise ArgumentError(f"measure: seconds must be positive, got {seconds!r}")
    if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
        raise ArgumentError(f"measure: warmup must be an integer of 0 or more, got {warmup!r}")
    names = list(models)
    times: dict[str, list[float]] = {name: [] for name in names}
    with _quiet(models.values(), threads), torch.inference_mode():
        inputs = {name: noise(model, size) for name, model in models.items()}
        for name in names:
            _try(name, models[name], inputs[name])
        for _ in range(warmup):
            for name in names:
                _timed(models[name], inputs[name])
        end = time.perf_counter() + seconds * len(names)
        rounds = 0
        while rounds < _MIN_RUNS or time.perf_counter() < end:
            start = rounds % len(names)
            for name in names[start:] + names[:start]:
                times[name].append(_timed(models[name], inputs[name]))
            rounds += 1
    passes = 1 + warmup  # the first, which tries the model, warms up as well
    return {
        name: _latency(times[name], passes, size[0], threads, str(inputs[name].device))
        for name in names
    }


def measure_one(
    model: nn.Module,
    input_size: Sequence[int] = (1, 3, 224, 224),
    *,
    threads: int = 1,
    seconds: float = 1.0,
    warmup: int = 3,
) -> Latency:
    """Time one model; see `measure`, which compares several fairly."""
    name = type(model).__name__
    return measure({name: model}, input_size, threads=threads, seconds=seconds, warmup=warmup)[name]


@contextmanager
def _quiet(models: Iterable[nn.Module], threads: int) -> Iterator[None]:
    modes = [(module, module.training) for model in models for module in model.modules()]
    threads_before, collecting = torch.get_num_threads(), gc.isenabled()
    try:
        torch.set_num_threads(threads)
        gc.collect()
        gc.disable()
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
        if collecting:
            gc.enable()
        torch.set_num_threads(threads_before)


def noise(model: nn.Module, size: tuple[int, ...]) -> Tensor:
    """Drawn from its own generator, so that the caller's random state stays as it is."""
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    return noise if first is None else noise.to(first.device, first.dtype)


def _try(name: str, model: nn.Module, x: Tensor) -> None:
    try:
        model(x)
    except Exception as error:
        raise InputError(
            f"measure: {name} ({type(model).__name__}) fails on input size {tuple(x.shape)}: "
            f"{error}"
        ) from error


def _timed(model: nn.Module, x: Tensor) -> float:
    """Milliseconds of one pass; on a GPU until its queue is empty."""
    on_gpu = x.device.type != "cpu"
    if on_gpu:
        torch.accelerator.synchronize(x.device)
    start = time.perf_counter()
    model(x)
    if on_gpu:
        torch.accelerator.synchronize(x.device)
    return (time.perf_counter() - start) * 1000


def _latency(times: list[float], warmup: int, batch: int, threads: int, device: str) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high, len(times), warmup, batch, threads, device)
