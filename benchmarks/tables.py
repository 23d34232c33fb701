"""Tables of the results, between their marks in a page of the docs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from convattn.blocks import block_class

__all__ = ["fill"]

LARGE = 9e6  # bytes of a map that no cache but the last one holds
FLOOR_OF = [16, 96, 112, 112]
# what a map of that size costs at least, in copies: once in evaluation, so often in training
FLOORS = {
    "se": 2.5, "eca": 2.5, "ca": 3.5, "gc": 2.5, "srm": 4.0, "ela": 2.5, "cbam": 4.0,
    "triplet": 3.5,
}  # fmt: skip
Rows = Sequence[dict[str, Any]]


def fill(page: str, results: Path) -> str:
    """The page with its tables made anew: between `<!-- NAME -->` and `<!-- end -->`.

    Args:
        page: Markdown.
        results: folder of the suites' JSON.
    """
    suites = {
        suite: json.loads((results / f"{suite}.json").read_text())["rows"]
        for suite in ("blocks", "training", "models", "kept_memory/blocks")
    }
    blocks, training = suites["blocks"], suites["training"]
    made: dict[str, Callable[[], list[list[str]]]] = {
        "evaluation": lambda: _blocks("evaluation", blocks),
        "training": lambda: _blocks("training step", training),
        "compile": lambda: _compiled({"evaluation": blocks, "training step": training}),
        "models": lambda: _models(suites["models"]),
        "memory": lambda: _memory({"as usual": blocks, "kept": suites["kept_memory/blocks"]}),
        "floor": lambda: _floor(blocks, training),
    }

    def table(found: re.Match[str]) -> str:
        head, *rows = made[found[1]]()
        lines = [head, ["---"] * len(head), *rows]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"<!-- {found[1]} -->\n\n{text}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def _ratio(row: dict[str, Any], other: str, of: str = "median", to: str = "ours") -> float:
    times = row["microseconds"]
    return float(times[other][of] / times[to][of])


def _mean(values: Iterable[float]) -> str:
    found = [*values]
    return _text(geometric_mean(found)) if found else "–"


def _bytes(row: dict[str, Any]) -> int:
    return 4 * math.prod(row["shape"])


def _text(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 1.25 else f"{value:.2f}"


def _blocks(head: str, rows: Rows) -> list[list[str]]:
    """Against the authors' steps and in copies, the smallest gain first."""
    titles = [head, "medians", "fastest", "smallest of the cells", "copies", "large maps"]
    lines: list[tuple[float, list[str]]] = []
    for name in dict.fromkeys(row["block"] for row in rows):
        own = [row for row in rows if row["block"] == name]
        gains = [_ratio(row, "eager") for row in own]
        line = [
            block_class(name).__name__,
            _mean(gains),
            _mean(_ratio(row, "eager", "fastest") for row in own),
            _text(min(gains)),
            _mean(_ratio(row, "ours", to="copy") for row in own),
            _mean(_ratio(row, "ours", to="copy") for row in own if _bytes(row) > LARGE),
        ]
        lines.append((geometric_mean(gains), line))
    return [titles, *(line for _, line in sorted(lines))]


def _compiled(suites: dict[str, Rows]) -> list[list[str]]:
    """CA against `torch.compile` of the authors' steps."""
    lines = [["CA against `torch.compile`", "medians", "fastest", "smallest of the cells"]]
    for suite, rows in suites.items():
        own = [row for row in rows if row["block"] == "ca" and "compile" in row["microseconds"]]
        gains = [_ratio(row, "compile") for row in own]
        fastest = (_ratio(row, "compile", "fastest") for row in own)
        lines.append([suite, _mean(gains), _mean(fastest), _text(min(gains)) if gains else "–"])
    return lines


def _models(rows: Rows) -> list[list[str]]:
    """MobileNetV2 with CA, as times of the same network without."""
    titles = ("convattn", "fastest", "the authors' steps", "fastest")
    lines = [["MobileNetV2 with CA, one image", *titles]]
    for row in rows:
        if row["block"] == "ca" and row["shape"][0] == 1:
            values = [
                _ratio(row, kind, of, "none")
                for kind in ("ours", "eager")
                for of in ("median", "fastest")
            ]
            suite = "training step" if row["training"] else "evaluation"
            lines.append([suite, *(f"{value:.2f}" for value in values)])
    return lines


def _memory(suites: dict[str, Rows]) -> list[list[str]]:
    """CA in evaluation where the C library gives memory back, and where it keeps it."""
    titles = ("copies, above 9 MB", "from 56x56 on", "the authors' steps")
    lines = [["memory of results", *titles]]
    for name, rows in suites.items():
        own = [row for row in rows if row["block"] == "ca"]
        large = [row for row in own if _bytes(row) > LARGE]
        wide = [row for row in large if row["shape"][2] >= 56]
        copies = (_mean(_ratio(row, "ours", to="copy") for row in some) for some in (large, wide))
        lines.append([name, *copies, _mean(_ratio(row, "eager") for row in own)])
    return lines


def _floor(blocks: Rows, training: Rows) -> list[list[str]]:
    """The share of the floor that is reached, by the fastest samples."""
    formats = ("contiguous", "channels_last")
    lines = [["", "evaluation: floor", *formats, "training: floor", *formats]]
    for name, floor in FLOORS.items():
        line = [block_class(name).__name__]
        for rows, least in ((blocks, 1.0), (training, floor)):
            line.append(f"{least:g}")
            for layout in formats:
                own = [
                    row
                    for row in rows
                    if (row["block"], row["shape"], row["format"]) == (name, FLOOR_OF, layout)
                ]
                shares = (least / _ratio(row, "ours", "fastest", "copy") for row in own)
                line.append(next((f"{100 * share:.0f} %" for share in shares), "–"))
        lines.append(line)
    return lines
