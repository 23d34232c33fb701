"""Published rows beside recomputed ones, as text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from convattn.tables.recompute import STATUSES, Number, Recomputed
from convattn.tables.rows import Print, Published

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["headings", "reasons", "rendered", "summary"]

NONE = "-"


def summary(results: Sequence[Recomputed]) -> str:
    """How many rows have each status, in one line."""
    counts = Counter(result.status for result in results)
    parts = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    papers = len({result.row.paper for result in results})
    return f"{len(results)} rows of {papers} paper{'s' * (papers != 1)}: {parts}"


def headings(rows: Sequence[Published]) -> list[str]:
    """What holds for all rows of one table, which `rows` are: a line each."""
    first = rows[0]
    lines = [f"{first.title}: {first.table}", f"{first.setting}; read in: {first.source}"]
    params = dict.fromkeys(_unit(row.params) for row in rows if row.params and row.network)
    counted = [row.macs for row in rows if row.macs and row.network and not row.macs.not_counted]
    macs = dict.fromkeys(map(_unit, counted))
    if params:
        lines.append(f"parameters in units of {' or '.join(params)}")
    if macs:
        lines.append(f"operations in units of {' or '.join(macs)}")
    return [*lines, first.note] if first.note else lines


def _unit(printed: Print) -> str:
    unit = "10^6, 10^9" if printed.base == 1000 else "2^20, 2^30"
    if printed.step:
        unit += f", rounded to {printed.step // printed.base**2} M"
    if printed.rounding == "down":
        unit += ", further digits cut off"
    return f"{unit} ({printed.convention})" if printed.convention else unit


def reasons(result: Recomputed) -> Iterator[str]:
    """Why numbers of a row are not as printed, or what explains them."""
    for name, number in (("parameters", result.params), ("operations", result.macs)):
        if number is not None and number.reason:
            yield f"{name} {number.count:,}: {number.status}, {number.reason}"
    if result.row.not_built or result.missing:
        yield f"not built: {result.row.not_built or result.missing}"
    elif result.row.macs and result.row.macs.not_counted:
        yield f"operations not counted: {result.row.macs.not_counted}"


def shown(printed: Print | None, number: Number | None) -> tuple[str, str]:
    """A print and the recomputed number with its digits."""
    return printed.text if printed else NONE, number.adjusted if number else NONE


def rendered(results: Iterable[Recomputed]) -> Iterator[RenderableType]:
    """For `rich`: heading, table and reasons of each published table."""
    from rich.table import Table
    from rich.text import Text

    def key(result: Recomputed) -> tuple[str, ...]:
        row = result.row
        return row.paper, row.table, row.setting, row.source, *row.scores

    for _, group in itertools.groupby(results, key):
        together = list(group)
        metrics = list(together[0].row.scores)
        yield Text("\n".join(headings([result.row for result in together])), style="bold")
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        for title in ("model", "attention"):
            table.add_column(title, overflow="fold")
        for title in ("params", "ours", "MACs", "ours"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("status", no_wrap=True)
        table.add_column(f"published {', '.join(metrics)}", justify="right")
        notes: dict[str, int] = {}
        for result in together:
            row = result.row
            marks = [notes.setdefault(reason, len(notes) + 1) for reason in reasons(result)]
            status = " ".join([result.status, *(f"({mark})" for mark in marks)])
            sizes = (*shown(row.params, result.params), *shown(row.macs, result.macs))
            scores = ", ".join(f"{value}" for value in row.scores.values())
            table.add_row(*(Text(t) for t in (row.model, row.attention, *sizes, status, scores)))
        yield table
        yield Text("".join(f"({mark}) {reason}\n" for reason, mark in notes.items()), style="dim")
