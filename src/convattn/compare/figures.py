"""The accuracy figure: every seed, the mean, the interval, and where all that lies on the scale.

It is drawn twice, wide for a desk and narrow for a phone, because text that shrinks with its
figure cannot be read.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from convattn.compare.drawing import (
    CARD,
    GRID,
    INK,
    MUTED,
    Style,
    axes_look,
    new_figure,
    shortened,
    svg,
    text_size,
    ticks,
)
from convattn.compare.statistics import Comparison, Variant
from convattn.compare.verdicts import metric_text, value_text
from convattn.core.names import require

__all__ = ["accuracy_figure", "focus_range"]


def accuracy_figure(c: Comparison, looks: Mapping[str, Style], *, narrow: bool = False) -> str:
    """Every seed, the mean and the interval per variant; references on a whole scale above."""
    name = "accuracy-narrow" if narrow else "accuracy"
    width, row = (336, 50) if narrow else (760, 38)
    scale = 100 if c.percent else 1
    low, high = focus_range(c)
    with new_figure(name, width, 100) as figure:
        widest = max(text_size(figure, v.label, 12)[0] for v in c.variants)
        left = 14 if narrow else min(widest, 200) + 26
        right = 14 if narrow else 96
        strip = _strip_rows(c, figure, width - 28) if c.references else []
        top = 44 + 14 * max((row for _, row, _ in strip), default=0) if strip else 0
        bridge = 30 if c.references else 6
        body, foot = row * len(c.variants) + 8, 38
        height = top + bridge + body + foot
        figure.set_size_inches(width / 72, height / 72)

        box = [left / width, foot / height, (width - left - right) / width, body / height]
        axes = figure.add_axes(box)
        axes_look(axes, grid="x")
        axes.set_xlim(low * scale, high * scale)
        axes.set_ylim(len(c.variants) - 0.5 + 4 / row, -0.5 - 4 / row)
        axes.set_yticks([])
        axes.set_xlabel(metric_text(c, unit=True) + " (test images)", labelpad=4)
        axes.xaxis.set_major_locator(ticks(6 if narrow else 9))
        for level in c.references.values():
            if low < level < high:
                axes.axvline(level * scale, color=MUTED, linewidth=1.2, dashes=(4, 3))
        for position, v in enumerate(c.variants):
            _dot_row(c, axes, v, position, looks[v.label], narrow=narrow)
        position = 0
        for tier in c.tiers[:-1]:
            position += len(tier)
            axes.axhline(position - 0.5, color=MUTED, linewidth=0.8)
        if c.references:
            whole = [14 / width, (height - top) / height, (width - 28) / width, (top - 2) / height]
            _whole_scale(c, figure, axes, whole, strip, looks)
        return svg(figure, name, html.escape(_accuracy_alt(c)))


def focus_range(c: Comparison) -> tuple[float, float]:
    """The part of the metric's scale that holds all seeds and intervals."""
    ends = [x for v in c.variants for x in v.values]
    ends += [x for v in c.variants if v.interval for x in (v.interval.low, v.interval.high)]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or 0.02 * abs(high) or (0.05 if c.percent else 0.5)
    low, high = low - pad, high + pad
    # An interval from two seeds can leave the scale; nothing beyond 0 and 1 exists to be shown.
    return (max(low, -0.01), min(high, 1.01)) if c.percent else (low, high)


def _dot_row(c: Comparison, axes: Any, v: Variant, row: int, look: Style, *, narrow: bool) -> None:
    scale = 100 if c.percent else 1
    line, below = (row + 0.12, 0.25) if narrow else (row - 0.06, 0.3)
    if v.interval:
        ends = [v.interval.low * scale, v.interval.high * scale]
        axes.plot(ends, [line] * 2, color=look.colour, linewidth=3, solid_capstyle="round")
    # Seeds that fall on the same spot are pushed apart sideways in y, so that each is seen.
    span = axes.get_xlim()[1] - axes.get_xlim()[0]
    lanes: list[float] = []
    for value in sorted(v.values):
        lane = next(
            (k for k, x in enumerate(lanes) if value * scale - x > 0.012 * span), len(lanes)
        )
        lanes[lane : lane + 1] = [value * scale]
        axes.plot(
            value * scale,
            line + below + 0.07 * (lane % 3),
            marker="o",
            markersize=4.6,
            color=look.colour,
            markeredgewidth=0,
            alpha=0.6,
            clip_on=False,
        )
    axes.plot(
        v.mean * scale,
        line,
        marker=look.marker,
        markersize=10.5,
        color=look.colour,
        markeredgecolor=CARD,
        markeredgewidth=1.5,
        clip_on=False,
    )
    number = value_text(c, v.mean)
    if v.interval:
        number += f" ± {value_text(c, v.interval.half)}"
    transform = axes.get_yaxis_transform()
    if narrow:
        axes.text(
            0,
            row - 0.24,
            shortened(axes.figure, v.label, 12, 220),
            transform=transform,
            color=INK,
            va="center",
            size=12,
        )
        axes.text(
            1,
            row - 0.24,
            number,
            transform=transform,
            color=MUTED,
            va="center",
            ha="right",
            size=11,
        )
        return
    label = axes.annotate(
        shortened(axes.figure, v.label, 12, 200),
        (0, row),
        xycoords=transform,
        xytext=(-12, 0),
        textcoords="offset points",
        ha="right",
    )
    label.set(color=INK, va="center", size=12)
    side = axes.annotate(
        number, (1, row), xycoords=transform, xytext=(12, 0), textcoords="offset points"
    )
    side.set(color=MUTED, va="center", size=11)


def _reference_text(c: Comparison, name: str) -> str:
    return f"{name} {value_text(c, c.references[name])}"


def _whole_range(c: Comparison) -> tuple[float, float]:
    if c.percent:
        return 0.0, 1.0
    ends = [*c.references.values(), *focus_range(c)]
    pad = 0.04 * (max(ends) - min(ends))
    return min(ends) - pad, max(ends) + pad


def _strip_rows(c: Comparison, figure: Any, width: float) -> list[tuple[str, int, bool]]:
    """Each reference's name, the line of its text, and whether the text stands left of its stem.

    Texts hang like flags to the right of their stems and are placed from the right, so that no
    stem crosses a text.
    """
    low, high = _whole_range(c)
    starts: list[float] = []
    out = []
    for name in sorted(c.references, key=c.references.__getitem__, reverse=True):
        size = text_size(figure, _reference_text(c, name), 10.5)[0] + 5
        x = (c.references[name] - low) / (high - low) * width
        left = x + size > width
        row = next((k for k, start in enumerate(starts) if x + size + 8 < start), len(starts))
        starts[row : row + 1] = [x - size if left else x]
        out.append((name, row, left))
    return out


def _whole_scale(
    c: Comparison,
    figure: Any,
    focus: Any,
    box: list[float],
    strip: list[tuple[str, int, bool]],
    looks: Mapping[str, Style],
) -> None:
    """A thin strip of the whole scale: references, means, and which part is enlarged below."""
    scale = 100 if c.percent else 1
    axes = figure.add_axes(box)
    axes.patch.set_alpha(0)
    axes.set_axis_off()
    low, high = _whole_range(c)
    axes.set_xlim(low * scale, high * scale)
    height = box[3] * figure.get_figheight() * 72
    axes.set_ylim(0, height)
    bar = 8.0
    band = {"linewidth": 6, "solid_capstyle": "butt"}
    axes.plot([low * scale, high * scale], [bar] * 2, color=GRID, **band)
    near, far = (min(max(x, low), high) * scale for x in focus_range(c))
    axes.plot([near, far], [bar] * 2, color=MUTED, alpha=0.35, **band)
    for name, row, left in strip:
        x, y = c.references[name] * scale, bar + 14 * row
        axes.plot([x, x], [bar - 5, y + 20], color=MUTED, linewidth=1.2)
        shift = {"xytext": (-4 if left else 4, 0), "textcoords": "offset points"}
        text = axes.annotate(_reference_text(c, name), (x, y + 9), **shift)
        text.set(size=10.5, color=MUTED, ha="right" if left else "left", va="bottom")
    for v in c.variants:
        axes.plot(v.mean * scale, bar, marker="|", markersize=9, color=looks[v.label].colour)
    if c.percent:
        axes.text(0, bar - 6, "0", size=10.5, color=MUTED, ha="left", va="top")
        axes.text(100, bar - 6, "100 %", size=10.5, color=MUTED, ha="right", va="top")
    # The two slanted lines say that the lower axis is this piece, enlarged.
    from_, to = figure.transFigure.inverted(), focus.get_position()
    for x, edge_x in ((near, to.x0), (far, to.x1)):
        start = from_.transform(axes.transData.transform((x, bar - 4)))
        figure.add_artist(
            require("matplotlib.lines", "compare").Line2D(
                [start[0], edge_x], [start[1], to.y1], color=GRID, linewidth=1
            )
        )


def _accuracy_alt(c: Comparison) -> str:
    parts = [
        f"{v.label} {value_text(c, v.mean)}"
        + (f" plus or minus {value_text(c, v.interval.half)}" if v.interval else "")
        for v in c.variants
    ]
    return f"{metric_text(c, unit=True)} per variant: {'; '.join(parts)}."
