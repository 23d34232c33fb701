"""Multiply a feature map by gates."""

from __future__ import annotations

from torch import Tensor

__all__ = ["apply_gates"]


def apply_gates(x: Tensor, gates: tuple[Tensor, ...]) -> Tensor:
    """y = x * gates[0] * gates[1] * ..., from left to right.

    Args:
        x: feature map (N, C, H, W); not changed.
        gates: tensors that broadcast to x, such as (N, C, 1, 1), (N, 1, H, W) or (N, C, H, 1).

    Returns:
        A new tensor of x's shape and dtype.
    """
    y = x
    for gate in gates:
        y = y * gate.to(x.dtype)  # under autocast a gate may be of another type than the map
    return y
