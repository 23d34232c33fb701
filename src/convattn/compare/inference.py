"""The bare statistics: intervals, the paired test, Holm's correction, the Pareto front.

Plain numbers in, plain numbers out; nothing here knows what a run is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convattn.core.names import require

__all__ = [
    "Difference",
    "Interval",
    "above",
    "holm",
    "paired_difference",
    "pareto",
    "t_bounds",
    "t_interval",
    "tiers_of",
]


@dataclass(frozen=True)
class Interval:
    """A closed range of values."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width: the number after the plus-minus sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A variant minus its baseline, seed by seed.

    Attributes:
        against: The baseline's label.
        seeds: The seeds both have; only these are paired.
        mean: Mean difference, positive where the variant's number is larger; None without seeds.
        interval: Of the mean difference; None below two seeds.
        p: Two-sided paired t-test; None below two seeds.
        p_holm: `p` after Holm's correction over all variants tested.
        degenerate: All differences were the same, so `p` is the exact sign-flip test's.
    """

    against: str
    seeds: tuple[int, ...]
    mean: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    degenerate: bool = False


def t_bounds(samples: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """Student's t-interval of the mean along the last axis of an array: low and high ends."""
    np, stats = require("numpy", "compare"), require("scipy.stats", "compare")
    samples = np.asarray(samples, dtype=np.float64)
    n = samples.shape[-1]
    middle = samples.mean(-1)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * samples.std(-1, ddof=1) / n**0.5
    return middle - half, middle + half


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """The t-interval of the mean, or None below two values."""
    if len(values) < 2:
        return None
    low, high = t_bounds(values, confidence)
    return Interval(float(low), float(high))


def paired_difference(
    values: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    against: str = "baseline",
    confidence: float = 0.95,
) -> Difference:
    """Compare two variants, seed by seed, on the seeds that both have.

    Where all differences are the same number, Student's t is 0/0 or infinite. Then `p` is that
    of the exact sign-flip test: 1 for differences of zero, else `2 ** (1 - n)`, which does not
    claim more than `n` seeds can show.
    """
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    if not seeds:
        return Difference(against=against, seeds=())
    np = require("numpy", "compare")
    pairs = np.array([(values[s], baseline[s]) for s in seeds], dtype=np.float64)
    d = pairs[:, 0] - pairs[:, 1]
    out = Difference(against=against, seeds=seeds, mean=float(d.mean()))
    if len(seeds) < 2:
        return out
    # Subtraction leaves rounding of this size in differences that are equal on paper.
    if np.ptp(d) <= 8 * np.finfo(np.float64).eps * np.abs(pairs).max():
        p = (
            1.0
            if abs(d[0]) <= np.finfo(np.float64).eps * np.abs(pairs).max()
            else 2.0 ** (1 - len(d))
        )
        same = Interval(float(d.mean()), float(d.mean()))
        return replace(out, interval=same, p=p, degenerate=True)
    p = float(require("scipy.stats", "compare").ttest_1samp(d, 0.0).pvalue)
    return replace(out, interval=t_interval(d.tolist(), confidence), p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the k-th smallest of m times `m - k + 1`, never falling."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for k, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - k) * p_values[index]))
        adjusted[index] = running
    return adjusted


def pareto(
    points: Sequence[tuple[float, float]], *, higher_is_better: bool = True
) -> tuple[int, ...]:
    """Indices of the `(cost, score)` points that no other point dominates, cheapest first.

    A point is dominated by one that is no worse in both and better in one; equal points stay.
    """
    sign = 1 if higher_is_better else -1
    scored = [(cost, sign * score) for cost, score in points]

    def dominated(i: int) -> bool:
        (cost, score) = scored[i]
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in scored)

    return tuple(
        sorted((i for i in range(len(points)) if not dominated(i)), key=points.__getitem__)
    )


def above(one: Interval, other: Interval, higher_is_better: bool = True) -> bool:
    """Whether `one` lies wholly on the better side of `other`; touching is not above."""
    return one.low > other.high if higher_is_better else one.high < other.low


def tiers_of(
    intervals: Mapping[str, Interval], higher_is_better: bool = True
) -> tuple[tuple[str, ...], ...]:
    """Cut the line of intervals, best first, wherever no interval reaches across the cut.

    Each name in a tier is above each name in every later tier. Inside a tier names keep the
    order in which they came.
    """

    def ends(name: str) -> tuple[float, float]:  # the worse end, the better end
        one = intervals[name]
        return (one.low, one.high) if higher_is_better else (-one.high, -one.low)

    groups: list[set[str]] = []
    floor = float("inf")
    for name in sorted(intervals, key=lambda name: -ends(name)[1]):
        low, high = ends(name)
        if high < floor:
            groups.append(set())
            floor = low
        groups[-1].add(name)
        floor = min(floor, low)
    return tuple(tuple(name for name in intervals if name in group) for group in groups)
