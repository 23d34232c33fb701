"""A comparison in plain words, and its numbers as a reader wants them written.

Fractions are written as percent and their differences as points; everything else as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from convattn.core.names import metric_name

if TYPE_CHECKING:
    from convattn.compare.inference import Difference, Interval
    from convattn.compare.statistics import Comparison, Variant

__all__ = [
    "confidence_text",
    "count_text",
    "difference_text",
    "interval_text",
    "joined",
    "metric_text",
    "notes_on",
    "p_text",
    "value_text",
    "verdicts_on",
]


def metric_text(c: Comparison, *, unit: bool = False) -> str:
    """The metric's name; with `unit`, as an axis or column is headed."""
    name = metric_name(c.metric)
    return f"{name}, %" if unit and c.percent else name


def value_text(c: Comparison, value: float, *, signed: bool = False) -> str:
    """A value or difference of the metric without its unit: `83.1`, `+3.1`, `−0.42`."""
    digits, scale = (1, 100) if c.percent else (3, 1)
    text = f"{value * scale:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval_text(c: Comparison, interval: Interval, *, signed: bool = False) -> str:
    """`1.2 to 5.0`, in the metric's unit."""
    return " to ".join(value_text(c, x, signed=signed) for x in (interval.low, interval.high))


def confidence_text(c: Comparison) -> str:
    """`95 %`."""
    return f"{100 * c.confidence:g} %"


def p_text(p: float) -> str:
    """A p-value with two or three decimals, never 0."""
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def count_text(number: int | None) -> str:
    """Parameters or MACs: `2,236,682` below ten million, then `314.2 M`, `1.37 G`."""
    if number is None:
        return "–"
    if number < 10_000_000:
        return f"{number:,}"
    return f"{number / 1e6:.1f} M" if number < 1e9 else f"{number / 1e9:.2f} G"


def joined(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *front, last = list(words) or [""]
    return f"{', '.join(front)} and {last}" if front else last


def difference_text(c: Comparison, d: Difference) -> str:
    """`difference +3.1 points, 95 % interval +1.2 to +5.0, Holm p = 0.010`."""
    assert d.mean is not None
    text = f"difference {value_text(c, d.mean, signed=True)}{' points' if c.percent else ''}"
    if d.interval is None:
        return text
    return f"{text}, {_evidence(c, d, signed=True)}"


def _evidence(c: Comparison, d: Difference, *, signed: bool = False) -> str:
    assert d.interval is not None
    assert d.p_holm is not None
    p = p_text(d.p_holm)
    return (
        f"{confidence_text(c)} interval {interval_text(c, d.interval, signed=signed)}, "
        f"Holm p {p if p.startswith('<') else '= ' + p}"
    )


def verdicts_on(c: Comparison, focus: str) -> tuple[str, ...]:
    """The findings, one sentence each; the first is the headline."""
    lines = [_headline(c)]
    lines += [_against_baseline(c, v, v.difference) for v in c.variants if v.difference]
    lines += _place_of(c, focus)
    lines += _against_references(c)
    return tuple(lines)


def _headline(c: Comparison) -> str:
    if len(c.variants) == 1:
        return f"Only one variant, {c.variants[0].label}: there is nothing to compare it with."
    if not c.contenders:
        return "One seed per variant: no interval, no test and no ranking is possible."
    rest = " that has an interval" if c.unranked else ""
    if len(c.contenders) == 1:
        label = c.contenders[0]
        if c.tiers == ((label,),):
            return f"No ranking: only {label} has more than one seed."
        return (
            f"{label} is first: its {confidence_text(c)} interval lies wholly "
            f"{'above' if c.higher_is_better else 'below'} that of every other variant{rest}."
        )
    everyone = len(c.contenders) == len(c.variants) > 2
    who = f"all {len(c.variants)} variants" if everyone else joined(c.contenders)
    return f"No single winner: the intervals of {who} overlap."


def _against_baseline(c: Comparison, v: Variant, d: Difference) -> str:
    if not d.seeds:
        return f"{v.label} against {d.against}: no seed in common, so not compared."
    if d.p_holm is None or d.mean is None or d.interval is None:
        return f"{v.label} against {d.against}: one seed in common, so no test."
    if d.p_holm >= 1 - c.confidence:
        return (
            f"{v.label} against {d.against}: not distinguishable at {len(d.seeds)} seeds "
            f"({difference_text(c, d)})."
        )
    better = (d.mean > 0) == c.higher_is_better
    # Told as a size in the direction of the verb, so the interval is turned with it.
    size, ends = d.mean, d.interval
    if size < 0:
        size, ends = -size, type(ends)(-ends.high, -ends.low)
    turned = type(d)(against=d.against, seeds=d.seeds, mean=size, interval=ends, p_holm=d.p_holm)
    return (
        f"{v.label} {'beats' if better else 'is worse than'} {d.against} by "
        f"{value_text(c, size)}{' points' if c.percent else ''} ({_evidence(c, turned)})."
    )


def _place_of(c: Comparison, focus: str) -> list[str]:
    """Where the focus stands whenever it is not the winner, in either direction."""
    ours = next((v for v in c.variants if v.label == focus), None)
    if ours is None or ours.interval is None or len(c.variants) == 1 or c.contenders == (focus,):
        return []
    ranked = [v for v in c.variants if v.interval]
    if len(ranked) == 1:
        return []
    word, most, sign = ("higher", "highest", 1) if c.higher_is_better else ("lower", "lowest", -1)
    best = max(ranked, key=lambda v: sign * v.mean)
    if sign * best.mean <= sign * ours.mean:
        tied = [v.label for v in ranked if v.mean == ours.mean and v.label != focus]
        shared = f", as {joined(tied)} {'has' if len(tied) == 1 else 'have'}" if tied else ""
        return [
            f"{focus} has the {most} mean{shared}, but its interval overlaps another's, "
            "so it is not placed first."
        ]
    values = f"{value_text(c, best.mean)} against {value_text(c, ours.mean)}"
    values += " %" if c.percent else ""
    tail = (
        "and their intervals do not overlap"
        if c.above(best.label, focus)
        else "though their intervals overlap"
    )
    return [f"{focus} is not first: {best.label} has the {word} mean ({values}), {tail}."]


def _against_references(c: Comparison) -> list[str]:
    if not c.references:
        return []
    pick = max if c.higher_is_better else min
    name = pick(c.references, key=c.references.__getitem__)
    level = c.references[name]
    clear = [v.label for v in c.variants if v.interval and _beyond(c, v.interval, level)]
    side = "above" if c.higher_is_better else "below"
    what = f"{name} ({value_text(c, level)}{' %' if c.percent else ''})"
    if len(clear) == len(c.variants):
        return [f"Every variant's interval lies {side} the best reference, {what}."]
    failing = [v.label for v in c.variants if v.interval and v.label not in clear]
    if not failing:
        return []
    return [f"Not clearly {side} the best reference, {what}: {joined(failing)}."]


def _beyond(c: Comparison, interval: Interval, level: float) -> bool:
    return interval.low > level if c.higher_is_better else interval.high < level


def notes_on(c: Comparison, environments: Sequence[str]) -> tuple[str, ...]:
    """What a careful reader must know beside the findings."""
    lines = []
    if all(v.difference is None for v in c.variants) and len(c.variants) > 1:
        lines.append(f"There is no variant {c.baseline!r}, so no test against a baseline was made.")
    if c.unranked and c.tiers:
        lines.append(f"One seed only, so no interval and no place: {joined(c.unranked)}.")
    for v in c.variants:
        d = v.difference
        base = next((o for o in c.variants if d and o.label == d.against), None)
        odd = sorted(set(v.seeds) ^ set(base.seeds)) if base else []
        if d and d.seeds and odd:
            both, one = (joined(map(str, seeds)) for seeds in (d.seeds, odd))
            lines.append(
                f"{v.label} and {d.against} are paired on seed {both} only; "
                f"seed {one} is missing from one of them."
            )
        if d and d.degenerate:
            lines.append(
                f"{v.label} differs from {d.against} by the same amount at every seed, where "
                "Student's t is not defined; its p is that of the exact sign-flip test."
            )
        if v.interval and v.interval.half == 0:
            lines.append(
                f"All seeds of {v.label} gave the same value; its interval has no width and "
                "understates what is not known."
            )
    timed = {(v.cost.threads, v.cost.batch) for v in c.variants if v.cost.latency_ms is not None}
    if len(timed) > 1:
        lines.append("Latencies were measured with different threads or batch sizes.")
    if environments:
        lines.append(f"The environment was not the same in all runs: {joined(environments)}.")
    return tuple(lines)
