"""Interleaved timing: everything compared takes turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "interleaved"]

_SAMPLE = 1e-3  # seconds that one sample lasts at least, or one call


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: median, quartiles, the fastest sample, and how many there were."""

    median: float
    low: float
    high: float
    fastest: float
    samples: int


def interleaved(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
    """Time each call in turn, again and again, for about so long in all, at least five rounds.

    What else the machine does hits all alike, so that ratios of one mapping can be compared, and
    times of different runs cannot.
    """
    repeats = {name: _repeats(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(samples.values()))) < 5:
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            samples[name].append((time.perf_counter() - start) / repeats[name] * 1e6)
    return {name: _summary(values) for name, values in samples.items()}


def _repeats(call: Callable[[], object]) -> int:
    call()
    start = time.perf_counter()
    call()
    return max(1, int(_SAMPLE / (time.perf_counter() - start)))


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4)
    return Timing(median, low, high, min(values), len(values))
