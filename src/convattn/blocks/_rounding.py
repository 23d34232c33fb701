"""Widths rounded as timm rounds them."""

from __future__ import annotations

__all__ = ["rounded_width"]


def rounded_width(width: float, divisor: int) -> int:
    """`width` to the nearest multiple of `divisor`, ties upwards, at least one multiple.

    timm rounds the hidden channels of most attention layers so, to multiples of 8.
    """
    return max(divisor, int(width + divisor / 2) // divisor * divisor)
