"""The multiplication by PyTorch's own operators."""

from __future__ import annotations

from torch import Tensor

__all__ = ["apply_gates"]


def apply_gates(x: Tensor, gates: tuple[Tensor, ...]) -> Tensor:
    """y = x * gates[0] * gates[1] * ..., from left to right."""
    y = x
    for gate in gates:
        y = y * gate.to(x.dtype)  # under autocast a gate may be of another type than the map
    return y
