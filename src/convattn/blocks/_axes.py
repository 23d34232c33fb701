"""Names of the axes of a map, a choice of them, and strips along one of them."""

from __future__ import annotations

from itertools import combinations

from torch import Tensor

from convattn.core.checks import check_choice

__all__ = ["axis_names", "check_axes", "spread"]

_NAMES = ("l", "hw", "dhw")


def axis_names(ndim: int) -> str:
    """The names of the axes of a map: "l", "hw" or "dhw"."""
    return _NAMES[ndim - 1]


def check_axes(owner: str, axes: str | None, ndim: int) -> dict[str, int]:
    """The chosen axes and their places among those of the map; None chooses all.

    Raises:
        ArgumentError: it names another axis, none, or one twice or out of order.
    """
    names = axis_names(ndim)
    axes = names if axes is None else axes
    subsets = [c for n in range(ndim, 0, -1) for c in combinations(names, n)]
    check_choice(owner, "axes", axes, tuple("".join(c) for c in subsets))
    return {axis: names.index(axis) for axis in axes}


def spread(strip: Tensor, place: int, ndim: int) -> Tensor:
    """A strip (N, C, L) along one axis, to be broadcast over a map of `ndim` axes."""
    behind = ndim - 1 - place
    return strip[(slice(None), slice(None), *(None,) * place, ..., *(None,) * behind)]
