"""From finished runs to means, intervals, paired tests and groups that may honestly be ranked.

Every interval is Student's t over seeds. Every test is the paired t-test on common seeds, with
Holm's correction over all variants tested. One variant is placed above another only when its
interval lies wholly above the other's; everything else shares a tier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convattn.compare.inference import (
    Difference,
    Interval,
    above,
    holm,
    paired_difference,
    pareto,
    t_bounds,
    t_interval,
    tiers_of,
)
from convattn.compare.records import Run, check_comparable, differing_environments
from convattn.compare.verdicts import notes_on, verdicts_on
from convattn.core.errors import ArgumentError, DataError
from convattn.core.names import require

__all__ = [
    "Comparison",
    "Cost",
    "Difference",
    "Interval",
    "Variant",
    "compare_runs",
    "holm",
    "paired_difference",
    "pareto",
    "t_bounds",
    "t_interval",
]

_LOWER_IS_BETTER = {"loss", "error", "nll", "ece", "perplexity"}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one variant costs; None where it was not measured.

    Attributes:
        input_size: Of the image, with the batch.
        load: What else the cost was counted with, in words.
    """

    parameters: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    latency: Interval | None = None
    threads: int | None = None
    batch: int | None = None
    input_size: tuple[int, ...] | None = None
    load: str = ""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One label: its seeds and values in the same order, and what follows from them."""

    label: str
    cell: Mapping[str, Any]
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    sd: float | None
    interval: Interval | None
    difference: Difference | None
    cost: Cost
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that the table and the report say.

    Attributes:
        variants: By tier, best first; inside a tier the baseline, then the order of the runs,
            never the order of the means. Those without an interval come last.
        tiers: Labels; each member of a tier is above each member of every later tier, and
            neighbours inside a tier overlap.
        unranked: Labels with one seed, which have no interval and so no place.
        contenders: Labels that no other is above. Exactly one is a winner.
    """

    metric: str
    higher_is_better: bool
    percent: bool
    baseline: str
    confidence: float
    references: Mapping[str, float]
    varied: tuple[str, ...]
    variants: tuple[Variant, ...]
    tiers: tuple[tuple[str, ...], ...]
    unranked: tuple[str, ...]
    contenders: tuple[str, ...]
    verdicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, label: str) -> Variant:
        return next(v for v in self.variants if v.label == label)

    def above(self, one: str, other: str) -> bool:
        """Whether `one`'s interval lies wholly on the better side of `other`'s."""
        ours, theirs = self[one].interval, self[other].interval
        return bool(ours and theirs and above(ours, theirs, self.higher_is_better))


def compare_runs(
    runs: Sequence[Run],
    *,
    metric: str = "top1",
    baseline: str = "none",
    confidence: float = 0.95,
    references: Mapping[str, float] | None = None,
    higher_is_better: bool | None = None,
    focus: str = "ca",
    ignore: Sequence[str] = (),
) -> Comparison:
    """Compare variants over seeds.

    A variant's baseline is the one whose cell is the same but for one field with the value
    `baseline`; failing that, the variant labelled `baseline`.

    Args:
        runs: Records that differ in nothing but the varied fields and the seed.
        metric: A key of the runs' metrics.
        baseline: Value or label of the variant the others are tested against.
        confidence: Of all intervals; a Holm p below `1 - confidence` counts as a difference.
        references: Named levels of the same metric to show beside the variants.
        higher_is_better: None decides by the name: losses and errors are better low.
        focus: A label whose place is told even when it is not first.
        ignore: Config fields that may differ between runs, such as an output path.

    Raises:
        ArgumentError: The metric is unknown, or the runs cannot be compared fairly.
        DataError: Runs of one label report different parameters or MACs.
    """
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence={confidence}: expected a number between 0 and 1")
    varied = check_comparable(runs, ignore=ignore)
    have = set.intersection(*(set(run.metrics) for run in runs))
    if metric not in have:
        raise ArgumentError(
            f"metric={metric!r} is not in every run (have: {', '.join(sorted(have))})"
        )
    if higher_is_better is None:
        higher_is_better = _LOWER_IS_BETTER.isdisjoint(re.split(r"[^a-z]+", metric.lower()))
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    variants = [
        _variant(sorted(g, key=lambda r: r.seed), metric, confidence) for g in groups.values()
    ]
    variants.sort(key=lambda v: baseline not in (v.label, *v.cell.values()))
    variants = _tested(variants, baseline, confidence)
    intervals = {v.label: v.interval for v in variants if v.interval}
    tiers = tiers_of(intervals, higher_is_better)
    unranked = tuple(v.label for v in variants if v.interval is None)
    by_label = {v.label: v for v in variants}
    references = dict(references or {})
    levels = [x for v in variants for x in v.values] + list(references.values())
    out = Comparison(
        metric=metric,
        higher_is_better=higher_is_better,
        percent=higher_is_better and all(0 <= x <= 1 for x in levels),
        baseline=baseline,
        confidence=confidence,
        references=references,
        varied=varied,
        variants=tuple(by_label[label] for label in (*sum(tiers, ()), *unranked)),
        tiers=tiers,
        unranked=unranked,
        contenders=tuple(
            label
            for label, own in intervals.items()
            if not any(above(other, own, higher_is_better) for other in intervals.values())
        ),
    )
    notes = notes_on(out, differing_environments(runs))
    return replace(out, verdicts=verdicts_on(out, focus), notes=notes)


def _variant(runs: list[Run], metric: str, confidence: float) -> Variant:
    np = require("numpy", "compare")
    values = tuple(run.metrics[metric] for run in runs)
    return Variant(
        label=runs[0].label,
        cell=runs[0].cell,
        seeds=tuple(run.seed for run in runs),
        values=values,
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=t_interval(values, confidence),
        difference=None,
        cost=_cost(runs),
        seconds=float(np.mean([run.seconds for run in runs])),
    )


def _cost(runs: list[Run]) -> Cost:
    for name in ("parameters", "macs"):
        found = {run.cost.get(name) for run in runs}
        if len(found) > 1:
            raise DataError(f"runs of {runs[0].label!r} differ in {name}: {found}; not one network")
    timed = [run.cost["latency_ms"] for run in runs if run.cost.get("latency_ms")]
    first = runs[0].cost
    cost = Cost(
        parameters=first.get("parameters"),
        macs=first.get("macs"),
        input_size=tuple(first["input_size"]) if "input_size" in first else None,
        load=first.get("load", ""),
    )
    if not timed:
        return cost
    return replace(
        cost,
        latency_ms=float(require("numpy", "compare").median([t["median"] for t in timed])),
        latency=Interval(min(t["low"] for t in timed), max(t["high"] for t in timed)),
        threads=timed[0].get("threads"),
        batch=timed[0].get("batch"),
    )


def _tested(variants: list[Variant], baseline: str, confidence: float) -> list[Variant]:
    out = []
    for v in variants:
        base = _baseline_of(v, variants, baseline)
        if base is not None:
            ours, theirs = (dict(zip(x.seeds, x.values, strict=True)) for x in (v, base))
            v = replace(
                v,
                difference=paired_difference(
                    ours, theirs, against=base.label, confidence=confidence
                ),
            )
        out.append(v)
    tested = [i for i, v in enumerate(out) if v.difference and v.difference.p is not None]
    for i, p in zip(tested, holm([out[i].difference.p for i in tested]), strict=True):  # type: ignore[union-attr, misc]
        out[i] = replace(out[i], difference=replace(out[i].difference, p_holm=p))  # type: ignore[type-var]
    return out


def _baseline_of(v: Variant, variants: list[Variant], baseline: str) -> Variant | None:
    if baseline in (v.label, *v.cell.values()):
        return None
    swaps = [{**v.cell, key: baseline} for key in v.cell]
    near = [o for o in variants if dict(o.cell) in swaps]
    return next(iter(near), None) or next((o for o in variants if o.label == baseline), None)
