"""The mean by PyTorch's own operator."""

from __future__ import annotations

from torch import Tensor

__all__ = ["global_mean"]


def global_mean(x: Tensor) -> Tensor:
    """Mean over all positions: (N, C, *axes) -> (N, C)."""
    return x.mean(tuple(range(2, x.dim())))
