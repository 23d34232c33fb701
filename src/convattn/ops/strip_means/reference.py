"""The means by PyTorch's own operator, one read of the map for each axis."""

from __future__ import annotations

from torch import Tensor

__all__ = ["strip_means"]


def strip_means(x: Tensor) -> tuple[Tensor, ...]:
    """Mean over all axes but one, for each axis: (N, C, H, W) -> (N, C, H), (N, C, W)."""
    axes = range(2, x.dim())
    if len(axes) == 1:
        return (x,)
    return tuple(x.mean([other for other in axes if other != axis]) for axis in axes)
