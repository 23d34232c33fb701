"""What attention adds to a network: beside the plain network, and block by block."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from convattn.cost.latency import Latency, measure, measure_one
from convattn.cost.memory import Memory, format_bytes, measure_memory
from convattn.cost.result import Cost, format_count

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["block_table", "marginal_table", "measure_blocks", "measure_pair"]

Measured = tuple[Latency, Memory]


def measure_pair(
    plain: nn.Module, attended: nn.Module, input_size: tuple[int, ...], *, threads: int = 1
) -> tuple[Measured, Measured]:
    """Latency, taking turns, and memory of a network without and with attention.

    Args:
        plain: the network.
        attended: the same with blocks.
        input_size: of the batch, such as (1, 3, 224, 224).
        threads: for torch on the CPU.

    Raises:
        InputError: a network fails on this size.
    """
    times = measure({"plain": plain, "attended": attended}, input_size, threads=threads)
    return (
        (times["plain"], measure_memory(plain, input_size)),
        (times["attended"], measure_memory(attended, input_size)),
    )


def measure_blocks(
    model: nn.Module, counted: Cost, *, threads: int = 1, seconds: float = 0.2
) -> dict[str, Measured]:
    """Latency and memory of each block alone, on noise of the size that it meets in the model.

    Args:
        model: what `counted` is the cost of.
        counted: names the blocks and their inputs.
        threads: for torch on the CPU.
        seconds: of timing per block.
    """
    found = {}
    for path, size in counted.block_inputs.items():
        block = model.get_submodule(path)
        latency = measure_one(block, size, threads=threads, seconds=seconds)
        found[path] = (latency, measure_memory(block, size))
    return found


def marginal_table(
    plain: Cost,
    attended: Cost,
    measured: tuple[Measured, Measured] | None = None,
    *,
    titles: tuple[str, str] = ("without", "with"),
) -> Table:
    """Costs without and with attention, and their difference; for `rich`.

    Args:
        plain: the network's.
        attended: the same network's with blocks, of the same input and convention.
        measured: from `measure_pair`.
        titles: of the two columns.
    """
    from rich.table import Table

    table = Table(caption="M = 10^6, Mi = 2^20; MiB = 2^20 bytes", box=None, header_style="bold")
    table.add_column("", no_wrap=True)
    for title in (*titles, "difference", ""):
        table.add_column(title, justify="right", min_width=len(title))
    for label, name in (("parameters",) * 2, ("MACs", "macs"), ("activations",) * 2):
        a, b = getattr(plain, name), getattr(attended, name)
        table.add_row(label, f"{a:,}", f"{b:,}", f"{b - a:+,}", _share(a, b))
        table.add_row("", _units(a), _units(b), style="dim")
    if measured:
        (time, memory), (time_with, memory_with) = measured
        for label, name in (
            ("median", "median"),
            ("lower quart.", "low"),
            ("upper quart.", "high"),
        ):
            a, b = getattr(time, name), getattr(time_with, name)
            cells = (f"{a:.3g} ms", f"{b:.3g} ms", f"{b - a:+.3g} ms", _share(a, b))
            table.add_row(f"latency, {label}", *cells)
        for name in ("inference", "training"):
            a, b = getattr(memory, name), getattr(memory_with, name)
            difference = f"{'-' if b < a else '+'}{format_bytes(abs(b - a))}"
            cells = (format_bytes(a), format_bytes(b), difference, _share(a, b))
            table.add_row(f"peak memory, {name}", *cells)
    return table


def block_table(counted: Cost, measured: Mapping[str, Measured] | None = None) -> Table:
    """A row for each attention block, alone, and their sums; for `rich`.

    Args:
        counted: of the model with blocks.
        measured: from `measure_blocks`.
    """
    from rich.table import Table

    rows = [row for row in counted.per_module() if row.path in counted.blocks]
    table = Table(box=None, header_style="bold", show_footer=True, padding=(0, 1, 0, 0))
    table.add_column("block", "total", overflow="fold")
    table.add_column("input", no_wrap=True)
    for title, name in (("parameters",) * 2, ("MACs", "macs")):
        total = sum(getattr(row, name) for row in rows)
        table.add_column(title, f"{total:,}", justify="right", no_wrap=True)
    for title in ("latency", "inference", "training") if measured else ():
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        size = "x".join(map(str, counted.block_inputs.get(row.path, ()))) or "-"
        cells = [row.path or "(model)", size, f"{row.parameters:,}", f"{row.macs:,}"]
        if measured and row.path in measured:
            time, memory = measured[row.path]
            cells += [f"{time.median:.3g} ms"]
            cells += [format_bytes(memory.inference), format_bytes(memory.training)]
        table.add_row(*cells)
    return table


def _share(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.2f} %" if before else "-"


def _units(count: int) -> str:
    """Both units, which the caption explains: "3.95 M, 3.77 Mi"."""
    return re.sub(r" \(.*?\)", "", format_count(count)).replace(" =", ",")
