"""Both strips on a GPU, in one read of the map."""

from __future__ import annotations

from torch import Tensor

from convattn.ops._triton import strips, sums

__all__ = ["strip_means"]


def strip_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> (N, C, H), (N, C, W)."""
    n, c, h, w = x.shape
    rows, columns = sums(strips(x), x, dtype=x.dtype, row_scale=1 / w, column_scale=1 / h)
    return rows.view(n, c, h), columns.view(n, c, w)
