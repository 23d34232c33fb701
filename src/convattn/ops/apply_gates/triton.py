"""The multiplication on a GPU, and its gradients."""

from __future__ import annotations

from torch import Tensor

from convattn.ops._triton import View, gated, positions, strips, sums

__all__ = ["apply_gates", "gate_gradients", "map_gradient"]


def _fitting(x: Tensor, a: Tensor, b: Tensor | None) -> tuple[View, bool]:
    """The view in which one gate belongs to rows and the other to columns; whether a to rows."""
    for view in (positions(x), strips(x)):
        if a.shape == view.row and (b is None or b.shape == view.column):
            return view, True
        if a.shape == view.column and (b is None or b.shape == view.row):
            return view, False
    raise RuntimeError(
        f"convattn operators: gates of shapes {tuple(a.shape)} and "
        f"{None if b is None else tuple(b.shape)} do not fit a map {tuple(x.shape)}; expected one "
        "or both of (N, C, H, 1) and (N, C, 1, W), or of (N, C, 1, 1) and (N, 1, H, W)"
    )


def apply_gates(x: Tensor, a: Tensor, b: Tensor | None = None) -> Tensor:
    """y = x * a * b."""
    view, a_of_rows = _fitting(x, a, b)
    return gated(view, x, a, b, a_of_rows=a_of_rows)


def gate_gradients(
    dy: Tensor, x: Tensor, a: Tensor, b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Of a and b; of b an empty tensor if it is None."""
    view, a_of_rows = _fitting(x, a, b)
    if strips(dy) != strips(x) or dy.dtype != x.dtype:
        raise RuntimeError(
            f"convattn operators: the gradient is not of the map's shape, type and format: "
            f"{tuple(dy.shape)} {dy.dtype} {dy.stride()}, {tuple(x.shape)} {x.dtype} {x.stride()}"
        )
    rows, columns = (a, b) if a_of_rows else (b, a)
    of_rows, of_columns = sums(
        view, x, dy, rows, columns, dtype=a.dtype,
        row_scale=None if rows is None else 1.0, column_scale=None if columns is None else 1.0,
    )  # fmt: skip
    da, db = (of_rows, of_columns) if a_of_rows else (of_columns, of_rows)
    return da.view(a.shape), db if b is None else db.view(b.shape)


def map_gradient(
    dy: Tensor,
    a: Tensor,
    b: Tensor | None = None,
    mean: Tensor | None = None,
    row: Tensor | None = None,
    column: Tensor | None = None,
) -> Tensor:
    """dx = dy * a * b + mean + row + column."""
    view, a_of_rows = _fitting(dy, a, b)
    added: dict[str, Tensor] = {}
    rest = []
    for t in (mean, row, column):
        if t is None:
            continue
        if t.shape == view.row and "row" not in added:
            added["row"] = t
        elif t.shape == view.column and "column" not in added:
            added["column"] = t
        else:
            rest.append(t)  # strips and gates of channels, say: no block has these together
    dx = gated(view, dy, a, b, a_of_rows=a_of_rows, **added)
    for t in rest:
        dx += t
    return dx
