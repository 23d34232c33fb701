"""Means of a feature map over some of its axes."""

from __future__ import annotations

from torch import Tensor

__all__ = ["global_mean", "strip_means"]


def global_mean(x: Tensor) -> Tensor:
    """Mean over all positions: (N, C, *axes) -> (N, C)."""
    return x.mean(tuple(range(2, x.dim())))


def strip_means(x: Tensor) -> tuple[Tensor, ...]:
    """Mean over all axes but one, for each axis: (N, C, H, W) -> (N, C, H), (N, C, W)."""
    axes = range(2, x.dim())
    if len(axes) == 1:
        return (x,)
    return tuple(x.mean([other for other in axes if other != axis]) for axis in axes)
