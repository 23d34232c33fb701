"""Parameters and multiply-accumulates are the closed formulas at odd numbers of channels too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convattn.blocks import create_block
from convattn.cost import cost

H, W = 9, 7
HW, SUM = H * W, H + W


def _eighths(width: float) -> int:
    """To the nearest multiple of 8, at least 8."""
    return max(8, int(width + 4) // 8 * 8)


def _ca(c: int) -> tuple[int, int]:
    m = max(8, c // 32)
    return 3 * c * m + 3 * m + 2 * c, 2 * c * m * SUM


def _bam(c: int) -> tuple[int, int]:
    m = c // 16
    return 3 * c * m + 18 * m * m + c + 13 * m + 1, 2 * c * m + HW * (c * m + 18 * m * m + m)


def _cbam(c: int) -> tuple[int, int]:
    m = c // 16
    return 2 * c * m + m + c + 100, 4 * c * m + 98 * HW


def _light(c: int) -> tuple[int, int]:
    m = max(1, int(c / 16 + 0.5))
    return 2 * c * m + 51, 2 * c * m + 49 * HW


def _gam(c: int) -> tuple[int, int]:
    m = c // 4
    return 100 * c * m + 4 * c + 4 * m, 100 * c * m * HW


def _gc(c: int) -> tuple[int, int]:
    m = c // 16
    return 2 * c * m + 2 * c + 3 * m + 1, 2 * c * HW + 2 * c * m


def _non_local(c: int) -> tuple[int, int]:
    m = c // 2
    return 4 * c * m + 3 * m + 3 * c, 4 * c * m * HW + 2 * m * HW**2


def _lsk(c: int) -> tuple[int, int]:
    m = c // 2
    return 76 * c + 3 * c * m + 2 * m + c + 198, HW * (74 * c + 3 * c * m + 196)


def _cca(c: int) -> tuple[int, int]:
    m = c // 8
    return c * c + 2 * c * m + c + 2 * m + 1, 2 * HW * (c * c + 2 * c * m + SUM * (c + m))


def _simple_ca(c: int) -> tuple[int, int]:
    m = _eighths(c / 6)
    return 3 * c * m + m + 2 * c, 2 * c * m * SUM


FORMULAS: dict[str, tuple[str, dict[str, Any], Callable[[int], tuple[int, int]]]] = {
    "ca": ("ca", {}, _ca),
    "bam": ("bam", {}, _bam),
    "cbam": ("cbam", {}, _cbam),
    "cbam-light": ("cbam", {"variant": "timm_light"}, _light),
    "cca": ("cca", {}, _cca),
    "gam": ("gam", {}, _gam),
    "gc": ("gc", {}, _gc),
    "lsk": ("lsk", {}, _lsk),
    "non_local": ("non_local", {"subsample": "none"}, _non_local),
    "simple_ca": ("simple_ca", {}, _simple_ca),
    "spm": ("spm", {}, lambda c: (7 * c * c + 5 * c, 3 * c * c * SUM + c * c * HW)),
    "spm-w": ("spm", {"axes": "w"}, lambda c: (4 * c * c + 3 * c, 4 * c * c * W)),
    "strip": ("strip", {}, lambda c: (6 * c, 3 * c * SUM)),
    "strip-h": ("strip", {"axes": "h", "bias": True}, lambda c: (4 * c, 3 * c * H)),
    "triplet": ("triplet", {}, lambda c: (300, 98 * (HW + c * SUM))),
    "triplet-h": ("triplet", {"axes": "h"}, lambda c: (200, 98 * (HW + c * W))),
}


@pytest.mark.parametrize("channels", [37, 101])
@pytest.mark.parametrize("form", FORMULAS)
def test_parameters_and_macs(form: str, channels: int) -> None:
    name, arguments, formula = FORMULAS[form]
    counted = cost(create_block(name, channels, **arguments).eval(), (1, channels, H, W))
    assert (counted.parameters, counted.macs) == formula(channels)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("gam", 688 * 37 * 9 + 4 * 37 + 4 * 9, 688 * 37 * 9 * 60),
        ("triplet", 4 * 688, 686 * (60 + 37 * (15 + 20 + 12))),
        ("spm", 10 * 37**2 + 7 * 37, 3 * 37**2 * 12 + 37**2 * 60),
        ("strip", 9 * 37, 3 * 37 * 12),
        ("ca", 4 * 37 * 8 + 3 * 8 + 3 * 37, 2 * 37 * 8 * 12),
    ],
)
def test_three_axes(name: str, parameters: int, macs: int) -> None:
    counted = cost(create_block(name, 37, ndim=3).eval(), (1, 37, 4, 3, 5))
    assert (counted.parameters, counted.macs) == (parameters, macs)
