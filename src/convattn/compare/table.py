"""The comparison as a table: in the terminal, in Markdown, and as cells for the report page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convattn.compare.statistics import Comparison, Variant
from convattn.compare.verdicts import (
    confidence_text,
    count_text,
    interval_text,
    metric_text,
    p_text,
    value_text,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Grid", "as_grid", "as_markdown", "caption", "print_comparison", "rich_table"]

_NONE = "–"
# the terminal has 80 columns
_SHORT = {"seeds": "n", "parameters": "params", "latency, ms": "ms", "s / run": "s/run"}


@dataclass(frozen=True)
class Grid:
    """Text cells: `columns`, one row per variant, one per reference.

    Attributes:
        breaks: Positions in `rows` where a new tier begins; empty where there is one tier.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    references: tuple[tuple[str, ...], ...]
    breaks: tuple[int, ...]


def as_grid(c: Comparison) -> Grid:
    """All cells of the table as text. A column that no variant fills is left out."""
    against = {v.difference.against for v in c.variants if v.difference}
    base = against.pop() if len(against) == 1 else "baseline"
    heads = (
        "variant",
        metric_text(c, unit=True),
        "seeds",
        f"against {base}",
        "Holm p",
        "parameters",
        "MACs",
        "latency, ms",
        "s / run",
    )
    rows = [_row(c, v) for v in c.variants]
    blank = [_NONE] * (len(heads) - 2)
    references = [[name, value_text(c, x), *blank] for name, x in _by_level(c)]
    keep = [i for i in range(len(heads)) if i < 2 or any(row[i] != _NONE for row in rows)]
    breaks, position = [], 0
    for tier in (*c.tiers, *([c.unranked] if c.unranked else [])):
        breaks.append(position)
        position += len(tier)

    def cut(row: list[str] | tuple[str, ...]) -> tuple[str, ...]:
        return tuple(row[i] for i in keep)

    return Grid(cut(heads), tuple(map(cut, rows)), tuple(map(cut, references)), tuple(breaks[1:]))


def _by_level(c: Comparison) -> list[tuple[str, float]]:
    return sorted(c.references.items(), key=lambda item: item[1], reverse=c.higher_is_better)


def _row(c: Comparison, v: Variant) -> list[str]:
    value = value_text(c, v.mean)
    if v.interval:
        value += f" ± {value_text(c, v.interval.half)}"
    d = v.difference
    difference = _NONE
    if d and d.mean is not None:
        difference = value_text(c, d.mean, signed=True)
        if d.interval:
            difference += f" ({interval_text(c, d.interval, signed=True)})"
    return [
        v.label,
        value,
        str(len(v.seeds)),
        difference,
        p_text(d.p_holm) if d and d.p_holm is not None else _NONE,
        count_text(v.cost.parameters),
        count_text(v.cost.macs),
        _three(v.cost.latency_ms) if v.cost.latency_ms is not None else _NONE,
        _three(v.seconds),
    ]


def _three(x: float) -> str:
    """Three figures, as many as a measured time is worth, with the zeros at the end kept."""
    return f"{x:.{2 if x < 9.995 else 1 if x < 99.95 else 0}f}"


def caption(c: Comparison) -> str:
    """One sentence on how to read the table."""
    text = f"± is half of the {confidence_text(c)} t-interval over seeds; p is Holm-corrected."
    if len(c.tiers) > 1:
        text += " A rule parts groups whose intervals do not touch;"
        return f"{text} inside a group the order means nothing."
    return f"{text} The order of the rows is no ranking." if c.tiers else text


def rich_table(c: Comparison) -> Table:
    """The table for a terminal; references stand below the last rule.

    The intervals of the differences are left to the lines below it, so that 80 columns suffice.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = as_grid(c)
    table = Table(
        caption=caption(c),
        caption_justify="left",
        header_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
    )
    for position, name in enumerate(grid.columns):
        short = _SHORT.get(name, name.replace("against ", "vs "))
        table.add_column(
            short, justify="left" if position == 0 else "right", no_wrap=bool(position)
        )
    for position, row in enumerate(grid.rows):
        # Text, not str: a label such as "[ca]" must not be read as markup.
        cells = [
            Text(cell.partition(" (")[0] if column else cell) for column, cell in enumerate(row)
        ]
        last = position == len(grid.rows) - 1
        table.add_row(*cells, end_section=last or position + 1 in grid.breaks)
    for row in grid.references:
        table.add_row(*map(Text, row), style="dim")
    return table


def print_comparison(c: Comparison, console: Console | None = None) -> None:
    """Print the table, the verdicts and the notes."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(rich_table(c))
    console.print()
    for position, line in enumerate(c.verdicts):
        console.print(Text(line, style="bold" if position == 0 else ""))
    for line in c.notes:
        console.print(Text(f"Note: {line}", style="dim"))


def as_markdown(c: Comparison) -> str:
    """The table, verdicts and notes as GitHub-flavoured Markdown."""
    grid = as_grid(c)

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "| --- |" + " ---: |" * (len(grid.columns) - 1)
    table = [line(grid.columns), rule, *map(line, grid.rows), *map(line, grid.references)]
    parts = ["\n".join(table), caption(c), "\n".join(f"- {text}" for text in c.verdicts)]
    if c.notes:
        parts.append("\n".join(f"- Note: {text}" for text in c.notes))
    return "\n\n".join(parts) + "\n"
