"""No attention: the control of every comparison."""

from __future__ import annotations

from torch import Tensor

from convattn.blocks._base import GateBlock, Info

__all__ = ["NoAttention"]


class NoAttention(GateBlock):
    """Returns its input; no parameter, no cost.

    Args:
        channels: C, or None for any.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), the same tensor; no gates.
    """

    any_channels = True
    info = Info(title="No attention", summary="The control: returns its input.")

    def __init__(self, channels: int | None, *, ndim: int = 2) -> None:
        super().__init__(channels, ndim)

    def can_start_as_identity(self) -> bool:
        """It is the identity."""
        return True

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """No gates."""
        return ()
