"""Pictures of the results: what a block costs, in copies of its map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw"]

_COLOURS = {"ours": "#0072b2", "eager": "#b0413e", "compile": "#c08a00", "timm": "#5f6b6d"}
_WORDS = {"ours": "convattn", "eager": "the authors' steps", "compile": "torch.compile of them"}
_MARKS = {"contiguous": "o", "channels_last": "s"}
_COLUMNS = 4


def draw(results: Path, picture: Path) -> None:
    """Draw a suite's rows, a panel for each block: time over the map's size.

    Args:
        results: JSON of the suite `blocks` or `training`.
        picture: file to write; its ending says the format.
    """
    found = json.loads(results.read_text())
    by_block: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        by_block.setdefault(row["block"], []).append(row)
    columns = min(_COLUMNS, len(by_block))
    lines = -(-len(by_block) // columns)
    figure = Figure((2.6 * columns, 2.5 * lines + 0.6), layout="constrained", dpi=150)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    for panel, (block, rows) in zip(panels, by_block.items(), strict=False):
        _panel(panel, block, rows)
    for panel in [*panels][len(by_block) :]:
        panel.set_axis_off()
    figure.supxlabel("map, MB", fontsize=9)
    figure.supylabel("copies of the map", fontsize=9)
    handles: dict[str, Any] = {}
    for panel in figure.axes:
        handles |= {str(line.get_label()): line for line in panel.get_lines()}
    shown = {name: line for name, line in handles.items() if not name.startswith("_")}
    figure.legend(
        [*shown.values()], [*shown], loc="outside upper left", ncols=4, frameon=False, fontsize=7
    )
    figure.savefig(picture)


def _panel(panel: Axes, block: str, rows: list[dict[str, Any]]) -> None:
    panel.set_title(block, loc="left", fontsize=9)
    panel.set(xscale="log", yscale="log")
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
    panel.axhline(1, color="#888888", linewidth=0.8, linestyle=":")
    lines: dict[tuple[str, str, int], list[tuple[float, float]]] = {}  # one for each batch size
    for row in rows:
        for kind in row["microseconds"].keys() & _COLOURS.keys():
            line = lines.setdefault((kind, row["format"], row["shape"][0]), [])
            line.append((_megabytes(row), _copies(row, kind)))
    for (kind, layout, _), points in sorted(
        lines.items(), key=lambda line: [*_COLOURS].index(line[0][0])
    ):
        panel.plot(
            *zip(*sorted(points), strict=True), marker=_MARKS[layout], markersize=3, linewidth=1,
            color=_COLOURS[kind], label=f"{_WORDS.get(kind, kind)}, {layout}",
            linestyle="-" if layout == "contiguous" else "--",
        )  # fmt: skip


def _megabytes(row: dict[str, Any]) -> float:
    n, c, h, w = row["shape"]
    return float(4e-6 * n * c * h * w)


def _copies(row: dict[str, Any], kind: str) -> float:
    times = row["microseconds"]
    return float(times[kind]["median"] / times["copy"]["median"])
