"""Widths rounded as timm rounds them."""

from __future__ import annotations

__all__ = ["rounded_width"]


def rounded_width(width: float, divisor: int, keep: float = 0.0) -> int:
    """`width` to the nearest multiple of `divisor`, ties upwards, at least one multiple.

    Where less than `keep` of the width would be left, the multiple above it.

    timm rounds the hidden channels of most attention layers so, to multiples of 8.
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < keep * width else rounded
