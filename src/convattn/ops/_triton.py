"""How a map is laid before the GPU kernels of ops/_kernels.py, and their launching.

Of a contiguous map each plane is a matrix of its rows and columns, and each image one of its
channels and positions. Of a channels_last map each image is a matrix of its rows and columns with
C values at each place, and one of its positions and channels. So two kernels serve both formats,
gates of rows and columns, and gates of channels and positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from convattn.ops import _kernels

__all__ = ["DTYPES", "View", "gated", "positions", "strips", "sums"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_TILE = 4096  # values that a program holds at a time
_LINE = 512  # bytes of a row that it reads at once: 16 for each lane of a warp
_RUN = 128  # bytes at each place of a channels_last map: a line of the cache
_STEPS = 64  # sums of so many values in a row keep float32's precision
_WIDE = 2**31  # values of a program's matrices from which their places take 64 bits


@dataclass(frozen=True)
class View:
    """A map as `batch` matrices of rows and columns, with `values` at each place.

    Attributes:
        row: shape of a gate (N, C, H, W) that belongs to rows.
        column: shape of one that belongs to columns.
        layout: the map's memory format, which makes a gate's memory what the kernels read.
    """

    batch: int
    rows: int
    columns: int
    values: int
    row: tuple[int, ...]
    column: tuple[int, ...]
    layout: torch.memory_format


def strips(x: Tensor) -> View:
    """By rows and columns."""
    layout = _layout(x)
    n, c, h, w = x.shape
    row, column = (n, c, h, 1), (n, c, 1, w)
    if layout is torch.contiguous_format:
        return View(n * c, h, w, 1, row, column, layout)
    return View(n, h, w, c, row, column, layout)


def positions(x: Tensor) -> View:
    """By channels and positions."""
    layout = _layout(x)
    n, c, h, w = x.shape
    channel, position = (n, c, 1, 1), (n, 1, h, w)
    if layout is torch.contiguous_format:
        return View(n, c, h * w, 1, channel, position, layout)
    return View(n, h * w, c, 1, position, channel, layout)


def _layout(x: Tensor) -> torch.memory_format:
    if x.dim() == 4 and x.numel() and x.dtype in DTYPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            if x.is_contiguous(memory_format=layout):
                return layout
    raise RuntimeError(
        "convattn operators: expected a map (N, C, H, W), not empty, contiguous or channels_last, "
        f"of {', '.join(map(str, DTYPES))}; got {tuple(x.shape)} of {x.dtype}, strides {x.stride()}"
    )


def _tile(view: View, size: int, most_columns: int) -> dict[str, int]:
    """Values of a tile along each axis, powers of two; from inside to outside as many as fit."""
    tile, left = {}, _TILE
    last = view.values > 1
    for name, length, most in (
        ("BV", view.values, _RUN // size),
        ("BK", view.columns, most_columns if last else _LINE // size),
        ("BR", view.rows, left),
        ("BB", view.batch, left),
    ):
        tile[name] = min(triton.next_power_of_2(length), most, left)
        left //= tile[name]
    return tile


def _axes(view: View, tile: dict[str, int]) -> dict[str, int]:
    """The arguments that say where values lie."""
    last = view.values > 1
    line = view.values if last else view.columns
    align = math.gcd(line, 16)
    reach = tile["BB"] * view.rows * view.columns * view.values
    return {
        "B": view.batch, "R": view.rows, "K": view.columns, "line": line // align,
        "LAST": last, "ALIGN": align, "WIDE": reach >= _WIDE,
        "num_warps": max(1, math.prod(tile.values()) // 512),
        "enable_fp_fusion": False,  # products are rounded as PyTorch's are
        **tile,
    }  # fmt: skip


def gated(
    view: View,
    x: Tensor,
    a: Tensor,
    b: Tensor | None = None,
    row: Tensor | None = None,
    column: Tensor | None = None,
    *,
    a_of_rows: bool,
) -> Tensor:
    """x * a * b + row + column, of x's dtype and format; one of a and b belongs to rows."""
    tile = _tile(view, x.element_size(), 8)
    programs = math.prod(
        triton.cdiv(length, tile[name])
        for name, length in (
            ("BB", view.batch), ("BR", view.rows), ("BK", view.columns), ("BV", view.values)
        )
    )  # fmt: skip
    y = torch.empty_like(x)
    operands = (_laid(t, view) for t in (a, b, row, column))
    with torch.cuda.device_of(x):
        _kernels.gate[(programs,)](x, y, *operands, A_ROW=a_of_rows, **_axes(view, tile))
    return y


def sums(
    view: View,
    x: Tensor,
    dy: Tensor | None = None,
    of_rows: Tensor | None = None,
    of_columns: Tensor | None = None,
    *,
    dtype: torch.dtype,
    row_scale: float | None = None,
    column_scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums of each row and of each column, times a scale; those without a scale are not made.

    Args:
        view: of x.
        x: the map.
        dy: what it is multiplied by first, of the same format.
        of_rows: gate of the rows; weights of the sums of columns.
        of_columns: gate of the columns; weights of the sums of rows.
        dtype: of the results.
        row_scale: factor of the sums of rows.
        column_scale: factor of the sums of columns.

    Returns:
        (batch, values, rows) and (batch, values, columns), contiguous; what is not made is empty.
    """
    tile = _tile(view, x.element_size(), _TILE)
    across = triton.cdiv(view.columns, tile["BK"])
    others = triton.cdiv(view.batch, tile["BB"]) * across * triton.cdiv(view.values, tile["BV"])
    down = triton.cdiv(view.rows, tile["BR"])
    most = 1 if column_scale is None else min(_STEPS, others * down // _programs(x))
    steps = triton.cdiv(down, triton.cdiv(down, max(1, most)))
    down = triton.cdiv(down, steps)
    rows = _parts(x, across, view, view.rows, dtype, row_scale)
    columns = _parts(x, down, view, view.columns, dtype, column_scale)
    with torch.cuda.device_of(x):
        _kernels.sums[(others * down,)](
            x, dy, _laid(of_rows, view), _laid(of_columns, view), rows, columns,
            row_scale, column_scale, steps=steps, **_axes(view, tile),
        )  # fmt: skip
    none = x.new_empty(0, dtype=torch.float32)
    return (
        none if rows is None else _added(rows, dtype),
        none if columns is None else _added(columns, dtype),
    )


def _laid(gate: Tensor | None, view: View) -> Tensor | None:
    """A gate with its memory as the kernels read it."""
    return None if gate is None else gate.contiguous(memory_format=view.layout)


def _programs(x: Tensor) -> int:
    """How many programs of a reduction keep the device busy."""
    if not x.is_cuda:
        return 4  # Triton's interpreter; few, so that small maps have several steps
    return 4 * torch.cuda.get_device_properties(x.device).multi_processor_count


def _parts(
    x: Tensor, parts: int, view: View, length: int, dtype: torch.dtype, scale: float | None
) -> Tensor | None:
    if scale is None:
        return None
    kind = dtype if parts == 1 else torch.float32
    return x.new_empty((parts, view.batch, length, view.values), dtype=kind)


def _added(parts: Tensor, dtype: torch.dtype) -> Tensor:
    total = parts[0] if len(parts) == 1 else parts.sum(0)
    return total.transpose(1, 2).to(dtype).contiguous()
