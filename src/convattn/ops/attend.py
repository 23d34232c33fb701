"""A map multiplied by gates that are computed from it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from convattn.ops._link import Link, can_link
from convattn.ops.apply_gates import apply_gates

__all__ = ["attend"]


def attend(x: Tensor, gates: Callable[[Tensor], tuple[Tensor, ...]]) -> Tensor:
    """y = x * gate * gate ... with gates(x) = (gate, gate, ...).

    As `apply_gates(x, gates(x))`, with a backward pass that writes the gradient of x once.

    Args:
        x: feature map (N, C, *axes).
        gates: returns what x is multiplied by.

    Returns:
        A new tensor of x's shape and dtype.
    """
    if not can_link(x):
        return apply_gates(x, gates(x))
    link = Link(x)
    with link:
        found = gates(x)
    y = apply_gates(x, found, link)
    link.token = None  # its graph holds the link: kept, neither would be freed
    return y
