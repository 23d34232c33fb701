"""The two GPU kernels, in Triton: a map times its gates, and sums of a map over rows and columns.

A map is seen as B matrices of R rows and K columns, with V values at each place, in this order in
memory; ops/_triton.py says how. A tile of it is (BB, BR, BK, BV). What belongs to rows has the
layout (B, R, V), what belongs to columns (B, K, V).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gate", "sums"]


@triton.jit
def _operand(at, b, i, v, B, size, V):
    """Values of rows or columns i, in float32, and 0 outside."""
    inside = (b < B) & (i < size) & (v < V)
    return tl.load(at + (b * size + i) * V + v, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store(at, value, part, b, i, v, B, size, V):
    """Sums of rows or columns i, among those of all parts of the map."""
    inside = (b < B) & (i < size) & (v < V)
    tl.store(at + ((part.to(tl.int64) * B + b) * size + i) * V + v, value, mask=inside)


@triton.jit(do_not_specialize=["B", "R", "K", "line"])
def gate(
    x, y, a, b, row, column, B, R, K, line,
    A_ROW: tl.constexpr, LAST: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    BB: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """y = x * a * b + row + column; b, row and column may be None.

    One of a and b belongs to rows, the other to columns: a to rows if A_ROW. The innermost axis,
    V if LAST and K otherwise, has line * ALIGN values, so that the compiler knows of what they are
    a multiple. WIDE: places in a tile take 64 bits.
    """
    if LAST:
        V = line * ALIGN
    else:
        K = line * ALIGN
        V = 1
    tile = tl.program_id(0)
    v = tile % tl.cdiv(V, BV) * BV + tl.arange(0, BV)[None, None, None, :]
    tile = tile // tl.cdiv(V, BV)
    k = tile % tl.cdiv(K, BK) * BK + tl.arange(0, BK)[None, None, :, None]
    tile = tile // tl.cdiv(K, BK)
    r = tile % tl.cdiv(R, BR) * BR + tl.arange(0, BR)[None, :, None, None]
    first = (tile // tl.cdiv(R, BR)).to(tl.int64) * BB
    matrix = tl.arange(0, BB)[:, None, None, None]
    n = first + matrix
    inside = (n < B) & (r < R) & (k < K) & (v < V)
    if WIDE:
        matrix = matrix.to(tl.int64)
    start = first * R * K * V
    places = ((matrix * R + r) * K + k) * V + v

    value = tl.load(x + start + places, mask=inside, other=0.0).to(tl.float32)
    if A_ROW:
        value = value * _operand(a, n, r, v, B, R, V)
    else:
        value = value * _operand(a, n, k, v, B, K, V)
    if b is not None:
        if A_ROW:
            value = value * _operand(b, n, k, v, B, K, V)
        else:
            value = value * _operand(b, n, r, v, B, R, V)
    if row is not None:
        value = value + _operand(row, n, r, v, B, R, V)
    if column is not None:
        value = value + _operand(column, n, k, v, B, K, V)
    tl.store(y + start + places, value, mask=inside)


@triton.jit(do_not_specialize=["B", "R", "K", "line", "steps"])
def sums(
    x, dy, of_rows, of_columns, rows, columns, row_scale, column_scale, B, R, K, line, steps,
    LAST: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    BB: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Sums of x, or of x * dy, in one read; all but x may be None, as in `gate`.

    rows    = row_scale times the sum over k of x * dy * of_columns
    columns = column_scale times the sum over r of x * dy * of_rows

    A program takes BK columns of `steps` times BR rows. rows are (parts, B, R, V) with a part for
    each BK columns, columns (parts, B, K, V) with a part for each program along the rows: nothing
    is added up between programs, so that the result is the same each time.
    """
    if LAST:
        V = line * ALIGN
    else:
        K = line * ALIGN
        V = 1
    tile = tl.program_id(0)
    v = tile % tl.cdiv(V, BV) * BV + tl.arange(0, BV)[None, None, None, :]
    tile = tile // tl.cdiv(V, BV)
    part_k = tile % tl.cdiv(K, BK)
    k = part_k * BK + tl.arange(0, BK)[None, None, :, None]
    tile = tile // tl.cdiv(K, BK)
    part_r = tile % tl.cdiv(R, BR * steps)
    first = (tile // tl.cdiv(R, BR * steps)).to(tl.int64) * BB
    matrix = tl.arange(0, BB)[:, None, None, None]
    n = first + matrix
    aside = (n < B) & (k < K) & (v < V)
    if WIDE:
        matrix = matrix.to(tl.int64)
    start = first * R * K * V

    if of_columns is not None:
        column_gate = _operand(of_columns, n, k, v, B, K, V)
    total = tl.zeros((BB, BR, BK, BV), tl.float32)
    for step in tl.range(0, steps, num_stages=3):
        r = (part_r * steps + step) * BR + tl.arange(0, BR)[None, :, None, None]
        places = ((matrix * R + r) * K + k) * V + v
        inside = aside & (r < R)
        value = tl.load(x + start + places, mask=inside, other=0.0).to(tl.float32)
        if dy is not None:
            value = value * tl.load(dy + start + places, mask=inside, other=0.0).to(tl.float32)
        if rows is not None:
            one = value
            if of_columns is not None:
                one = one * column_gate
            one = tl.sum(one, 2, keep_dims=True) * row_scale
            _store(rows, one, part_k, n, r, v, B, R, V)
        if columns is not None:
            if of_rows is not None:
                value = value * _operand(of_rows, n, r, v, B, R, V)
            total += value
    if columns is not None:
        one = tl.sum(total, 1, keep_dims=True) * column_scale
        _store(columns, one, part_r, n, k, v, B, K, V)
