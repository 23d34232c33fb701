"""The result of counting: totals, rows per layer, and both as text with their units."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convattn.cost.conventions import CONVENTIONS

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Cost", "Row", "format_count"]


def format_count(count: int) -> str:
    """A count in both units that papers print: 25557112 -> "25.56 M (10^6) = 24.37 Mi (2^20)".

    Counts below 1000 are given as they are.
    """
    decimal, binary, power, prefix = float(count), float(count), 0, ""
    for letter in "KMGT":
        if abs(decimal) < 999.995:  # what rounds to 1000.00 takes the next prefix
            break
        decimal, binary, power, prefix = decimal / 1000, binary / 1024, power + 1, letter
    if power == 0:
        return str(count)
    return f"{decimal:.2f} {prefix} (10^{3 * power}) = {binary:.2f} {prefix}i (2^{10 * power})"


@dataclass(frozen=True)
class Row:
    """One module of the table.

    Attributes:
        path: in the model, "" for the model itself.
        type: class of the module; "X (own)" for what a module with children does or holds
            itself, outside of them.
        output_shape: of its first output tensor, with the batch; () where it was never called.
        parameters: held here; one that several modules share counts at the first.
        macs: for one sample, in the cost's convention.
        activations: output elements of convolutions and products here, for one sample.
    """

    path: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    activations: int


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass; `print(cost)` shows it per layer.

    Attributes:
        model: class of the model.
        input_size: what it was run on, batch first.
        convention: which operators `macs` counts; `CONVENTIONS` says it in words.
        parameters: trainable and frozen ones, without buffers; shared ones once.
        macs: for one sample of the batch, a multiply-add counted as one.
        activations: output elements of all convolutions and products, for one sample.
        uncounted: calls of the operators that `macs` leaves out, by name; views are no operators.
        rows: the finest table; `per_module` folds it.
        blocks: path -> (class, output shape) of the attention blocks.
        block_inputs: path -> input shape of those that ran.
    """

    model: str
    input_size: tuple[int, ...]
    convention: str
    parameters: int
    macs: int
    activations: int
    uncounted: Mapping[str, int]
    rows: tuple[Row, ...] = field(repr=False)
    blocks: Mapping[str, tuple[str, tuple[int, ...]]] = field(repr=False)
    block_inputs: Mapping[str, tuple[int, ...]] = field(repr=False)

    def per_module(self, *, inside_blocks: bool = False) -> tuple[Row, ...]:
        """Rows per leaf module; their parameters, MACs and activations add up to the totals.

        Args:
            inside_blocks: show the layers of an attention block instead of one row for it.
        """
        if inside_blocks:
            return self.rows
        folded: list[Row] = []
        for row in self.rows:
            block = self._block_of(row.path)
            if block is None:
                folded.append(row)
                continue
            name, shape = self.blocks[block]
            last = folded[-1] if folded and folded[-1].path == block else None
            if last is not None:
                folded.pop()
            folded.append(
                Row(
                    block,
                    name,
                    shape,
                    row.parameters + (last.parameters if last else 0),
                    row.macs + (last.macs if last else 0),
                    row.activations + (last.activations if last else 0),
                )
            )
        return tuple(folded)

    def _block_of(self, path: str) -> str | None:
        """The outermost block that `path` is or lies in."""
        names = path.split(".")
        prefixes = ["", *(".".join(names[:i]) for i in range(1, len(names) + 1))]
        return next((p for p in prefixes if p in self.blocks), None)

    def summary(self, *, totals: bool = True) -> str:
        """Totals with units, the convention, and what it leaves out; several lines.

        Args:
            totals: False leaves the totals out, for a text that has them already.
        """
        size = "x".join(map(str, self.input_size))
        head = f"{self.model} on {size}; MACs and activations for one sample"
        lines = [
            f"parameters   {self.parameters:,}  {format_count(self.parameters)}",
            f"MACs         {self.macs:,}  {format_count(self.macs)}",
            f"activations  {self.activations:,}  {format_count(self.activations)}",
        ]
        calls = ", ".join(f"{name} x{n}" for name, n in self.uncounted.items())
        convention = f"convention   {self.convention}: {CONVENTIONS[self.convention].text}"
        uncounted = f"not counted  {calls or 'nothing'}"
        return "\n".join([head, *(lines if totals else ()), convention, uncounted])

    def as_table(self, *, inside_blocks: bool = False) -> Table:
        """The table per layer for `rich`; layers without parameters and MACs are left out."""
        from rich.table import Table

        rows = self.per_module(inside_blocks=inside_blocks)
        shown = [row for row in rows if row.parameters or row.macs]
        left_out = len(rows) - len(shown)
        table = Table(
            title=f"{self.model}, MACs in the convention {self.convention}",
            caption=f"{left_out} layers without parameters and MACs left out" if left_out else None,
            show_footer=True,
        )
        table.add_column("layer", "total", overflow="fold")
        table.add_column("type", overflow="fold")
        table.add_column("output", justify="right", no_wrap=True)
        table.add_column("parameters", f"{self.parameters:,}", justify="right", no_wrap=True)
        table.add_column("MACs", f"{self.macs:,}", justify="right", no_wrap=True)
        for row in shown:
            shape = "x".join(map(str, row.output_shape)) or "-"
            name = row.path or "(model)"
            table.add_row(name, row.type, shape, f"{row.parameters:,}", f"{row.macs:,}")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=100, color_system=None).print(self.as_table())
        return f"{text.getvalue()}{self.summary()}"
