"""The small figures: the metric against each cost with its Pareto front, and training curves."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from convattn.compare.drawing import (
    CARD,
    INK,
    MUTED,
    Box,
    Style,
    axes_look,
    new_figure,
    place_labels,
    shortened,
    spread,
    svg,
    text_size,
    ticks,
)
from convattn.compare.figures import focus_range
from convattn.compare.records import Run
from convattn.compare.statistics import Comparison, Variant, pareto
from convattn.compare.verdicts import metric_text
from convattn.core.names import require

__all__ = ["Panel", "cost_panels", "curve_panels"]

Looks = Mapping[str, Style]


@dataclass(frozen=True)
class Panel:
    """One drawing: its heading and its SVG."""

    title: str
    svg: str


def cost_panels(c: Comparison, looks: Looks) -> tuple[Panel, ...]:
    """The metric against parameters, MACs and latency, as far as they were measured."""
    timed = [v.cost for v in c.variants if v.cost.latency_ms is not None]
    how = ""
    if timed and timed[0].threads and timed[0].batch:
        threads = f"{timed[0].threads} thread{'s' if timed[0].threads != 1 else ''}"
        how = f", ms (batch {timed[0].batch}, {threads})"
    kinds = (
        ("parameters", "Parameters", "parameters"),
        ("macs", "Multiply-adds", "MACs"),
        ("latency_ms", "Measured latency", f"latency{how or ', ms'}"),
    )
    panels = []
    for field, title, axis in kinds:
        costs = {v.label: getattr(v.cost, field) for v in c.variants}
        known = {label: float(x) for label, x in costs.items() if x is not None}
        if known:
            panels.append(Panel(title, _cost_plot(c, looks, field, axis, known)))
    return tuple(panels)


def _cost_plot(
    c: Comparison, looks: Looks, field: str, axis: str, costs: Mapping[str, float]
) -> str:
    ticker = require("matplotlib.ticker", "compare")
    scale = 100 if c.percent else 1
    unit, word = 1.0, axis
    if field != "latency_ms":
        largest = max(costs.values())
        names = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))
        unit, name = next(((u, n) for u, n in names if largest >= u), (1.0, ""))
        word = f"{axis}, {name}" if name else axis
    variants = [c[label] for label in costs]
    x = [costs[v.label] / unit for v in variants]
    y = [v.mean * scale for v in variants]
    with new_figure(f"cost-{field}", 272, 268) as figure:
        axes = figure.add_axes([32 / 272, 40 / 268, 234 / 272, 204 / 268])
        axes_look(axes, grid="both")
        if min(x) > 0 and max(x) / min(x) > 4:
            axes.set_xscale("log")
            axes.set_xlim(min(x) / 1.35, max(x) * 1.35)
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        else:
            pad = 0.16 * (max(x) - min(x)) or 0.06 * max(x) or 1.0
            axes.set_xlim(min(x) - pad, max(x) + pad)
            axes.xaxis.set_major_locator(ticks(5))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.4g}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        low, high = (end * scale for end in focus_range(c))
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(ticks(6))
        axes.set_xlabel(word, labelpad=6)
        axes.set_title(metric_text(c, unit=True), loc="left", size=10.5, color=MUTED, pad=6)
        front = pareto(list(zip(x, y, strict=True)), higher_is_better=c.higher_is_better)
        steps = {"color": MUTED, "linewidth": 1.2, "linestyle": (0, (3, 2.5)), "zorder": 2}
        axes.plot([x[i] for i in front], [y[i] for i in front], drawstyle="steps-post", **steps)
        obstacles = _step_boxes(axes, [(x[i], y[i]) for i in front])
        for i, v in enumerate(variants):
            obstacles += _cost_point(axes, v, x[i], y[i], looks[v.label], scale, field, i in front)
        shown = [shortened(figure, v.label, 10.5, 96) for v in variants]
        _name_points(figure, axes, shown, x, y, obstacles)
        points = "; ".join(
            f"{v.label} {a:.4g}, {b:.4g}" for v, a, b in zip(variants, x, y, strict=True)
        )
        alt = f"{metric_text(c, unit=True)} against {word}: {points}."
        return svg(figure, f"cost-{field}", html.escape(alt))


def _step_boxes(axes: Any, front: Sequence[tuple[float, float]]) -> list[Box]:
    """The front's dashed line as thin boxes, in pixels."""
    corners = [tuple(axes.transData.transform(point)) for point in front]
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        boxes.append((x0, y0 - 1.5, x1, y0 + 1.5))
        boxes.append((x1 - 1.5, min(y0, y1), x1 + 1.5, max(y0, y1)))
    return boxes


def _cost_point(
    axes: Any, v: Variant, x: float, y: float, look: Style, scale: float, field: str, front: bool
) -> list[Box]:
    """Draw one point with its intervals; returns what a label should not cover, in pixels."""
    pixels = axes.transData.transform
    boxes = []
    line = {
        "color": look.colour,
        "linewidth": 1.6,
        "alpha": 0.55,
        "solid_capstyle": "round",
        "zorder": 2,
    }
    if v.interval:
        ends = (v.interval.low * scale, v.interval.high * scale)
        axes.plot([x, x], ends, **line)
        (x0, y0), (_, y1) = pixels((x, ends[0])), pixels((x, ends[1]))
        boxes.append((x0 - 2, y0, x0 + 2, y1))
    if field == "latency_ms" and v.cost.latency:
        axes.plot([v.cost.latency.low, v.cost.latency.high], [y, y], **line)
        (x0, y0), (x1, _) = pixels((v.cost.latency.low, y)), pixels((v.cost.latency.high, y))
        boxes.append((x0, y0 - 2, x1, y0 + 2))
    axes.plot(
        x,
        y,
        marker=look.marker,
        markersize=9,
        color=look.colour,
        markerfacecolor=look.colour if front else CARD,
        markeredgecolor=look.colour,
        markeredgewidth=1.8,
        zorder=3,
    )
    return boxes


def _name_points(
    figure: Any, axes: Any, labels: Sequence[str], x: list[float], y: list[float], boxes: list[Any]
) -> None:
    pixels = [tuple(axes.transData.transform(point)) for point in zip(x, y, strict=True)]
    sizes = [text_size(figure, label, 10.5) for label in labels]
    edge = axes.get_window_extent()
    frame = (edge.x0 - 4, edge.y0, edge.x1 + 10, edge.y1)
    back = axes.transData.inverted().transform
    for label, point, size, at in zip(
        labels, pixels, sizes, place_labels(pixels, sizes, boxes, frame), strict=True
    ):
        gap = max(abs(at[0] - point[0]) - size[0] / 2, abs(at[1] - point[1]) - size[1] / 2)
        (x1, y1), (x0, y0) = back(at), back(point)
        if gap > 14:
            axes.plot([x0, x1], [y0, y1], color=MUTED, linewidth=0.7, alpha=0.7, zorder=1)
        axes.text(x1, y1, label, size=10.5, color=INK, ha="center", va="center", zorder=4)


def curve_panels(c: Comparison, runs: Sequence[Run], looks: Looks) -> tuple[Panel, ...]:
    """Mean over seeds per epoch, with the range of the seeds: training loss and the metric."""
    kinds = [("train_loss", "Training loss", 1.0)]
    title = metric_text(c, unit=True)
    kinds.append((c.metric, f"Test {title}", 100.0 if c.percent else 1.0))
    panels = []
    for field, title, scale in kinds:
        series = {v.label: _series(v.label, runs, field, scale) for v in c.variants}
        series = {label: points for label, points in series.items() if points}
        if series:
            panels.append(Panel(title, _curve_plot(field, title, series, looks)))
    return tuple(panels)


Series = list[tuple[int, float, float, float]]  # epoch, mean, lowest and highest seed


def _series(label: str, runs: Sequence[Run], field: str, scale: float) -> Series:
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for row in run.history if run.label == label else ():
            if field in row:
                by_epoch.setdefault(int(row["epoch"]), []).append(float(row[field]) * scale)
    return [(e, sum(x) / len(x), min(x), max(x)) for e, x in sorted(by_epoch.items())]


def _curve_plot(field: str, title: str, series: Mapping[str, Series], looks: Looks) -> str:
    name, width, height = f"curve-{field}", 336, 236
    with new_figure(name, width, height) as figure:
        names = [shortened(figure, label, 10.5, 96) for label in series]
        side = max(text_size(figure, name, 10.5)[0] for name in names) + 22
        box = [42 / width, 38 / height, (width - 42 - side) / width, (height - 46) / height]
        axes = figure.add_axes(box)
        axes_look(axes)
        for label, points in series.items():
            look = looks[label]
            epochs, means, lows, highs = zip(*points, strict=True)
            axes.fill_between(epochs, lows, highs, color=look.colour, alpha=0.13, linewidth=0)
            style = {"color": look.colour, "linewidth": 1.9, "linestyle": look.dash}
            single = {"marker": look.marker, "markersize": 6} if len(points) == 1 else {}
            axes.plot(epochs, means, **style, **single)
        axes.margins(x=0.01)
        axes.autoscale_view()  # now, not at drawing: the label places below need the final scale
        axes.xaxis.set_major_locator(
            require("matplotlib.ticker", "compare").MaxNLocator(6, integer=True)
        )
        axes.yaxis.set_major_locator(ticks(6))
        axes.set_xlabel("epoch", labelpad=4)
        ends = [tuple(axes.transData.transform(points[-1][:2])) for points in series.values()]
        edge = axes.get_window_extent()
        places = spread([y for _, y in ends], 14, edge.y0 + 4, edge.y1)
        for label, shown, end, place in zip(series, names, ends, places, strict=True):
            target = (edge.x1 + 16, place)
            axes.annotate(
                shown,
                end,
                xycoords="figure pixels",
                xytext=target,
                textcoords="figure pixels",
                size=10.5,
                color=looks[label].colour,
                va="center",
                arrowprops={
                    "arrowstyle": "-",
                    "color": looks[label].colour,
                    "linewidth": 0.7,
                    "shrinkA": 1,
                    "relpos": (0, 0.5),  # from the text's left edge, not through it
                },
            )
        last = "; ".join(f"{label} {points[-1][1]:.4g}" for label, points in series.items())
        return svg(figure, name, html.escape(f"{title} per epoch. At the end: {last}."))
