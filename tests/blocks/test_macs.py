"""Multiply-accumulates of each block are its closed formula: convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convattn.blocks import create_block
from convattn.cost import cost

Formula = Callable[[int, int, int], float]  # of C, H, W

PYRAMID = sum(k * k / g for k, g in ((3, 1), (5, 4), (7, 8), (9, 16)))
FORMULAS: list[tuple[str, dict[str, Any], Formula]] = [
    ("ca", {}, lambda c, h, w: 2 * c * 8 * (h + w)),
    ("ca", {"axes": "h"}, lambda c, h, w: 2 * c * 8 * h),
    ("ca", {"axes": "w"}, lambda c, h, w: 2 * c * 8 * w),
    ("se", {}, lambda c, h, w: 2 * c * (c // 16)),
    ("eca", {}, lambda c, h, w: 5 * c),
    ("cbam", {}, lambda c, h, w: 4 * c * (c // 16) + 98 * h * w),
    ("triplet", {}, lambda c, h, w: 98 * (h * w + c * w + c * h)),
    ("none", {}, lambda c, h, w: 0),
    ("srm", {}, lambda c, h, w: 0),
    ("sge", {}, lambda c, h, w: 0),
    ("simam", {}, lambda c, h, w: 0),
    ("sa", {}, lambda c, h, w: 0),
    ("fca", {"dct_size": (9, 7)}, lambda c, h, w: 2 * c * (c // 16)),
    ("fca", {}, lambda c, h, w: 2 * c * (c // 16) + c * 7 * h * (7 + w)),
    ("ela", {}, lambda c, h, w: 7 * c * (h + w)),
    ("ela", {"scale": "small"}, lambda c, h, w: 5 * 8 * c * (h + w)),
    (
        "ema",
        {"groups": 4},
        lambda c, h, w: 4 * ((c / 4) ** 2 * (h + w + 9 * h * w) + c / 2 * h * w),
    ),
    ("gam", {}, lambda c, h, w: 100 * c * (c // 4) * h * w),
    ("gam", {"grouped": True}, lambda c, h, w: (2 + 98 / 4) * c * (c // 4) * h * w),
    ("lsk", {}, lambda c, h, w: h * w * (1.5 * c * c + 74 * c + 196)),
    ("psa", {}, lambda c, h, w: PYRAMID * c * (c // 4) * h * w + 8 * (c // 4) * (c // 64)),
    ("simple_ca", {}, lambda c, h, w: 2 * c * 24 * (h + w)),
    ("strip", {}, lambda c, h, w: 3 * c * (h + w)),
    ("strip", {"axes": "h"}, lambda c, h, w: 3 * c * h),
    ("spm", {"axes": "w"}, lambda c, h, w: 4 * c * c * w),
    ("simple_ca", {"axes": "w"}, lambda c, h, w: 2 * c * 24 * w),
    ("cbam", {"variant": "timm_light"}, lambda c, h, w: 2 * c * (c // 16) + 49 * h * w),
    ("sk", {"variant": "timm"}, lambda c, h, w: 9 * c * c * h * w + 3 * c * 8),
    ("triplet", {"axes": "h"}, lambda c, h, w: 98 * (h * w + c * w)),
]


@pytest.mark.parametrize(
    ("name", "arguments", "formula"),
    FORMULAS,
    ids=lambda v: str(v) if isinstance(v, (str, dict)) else "",
)
def test_macs(name: str, arguments: dict[str, Any], formula: Formula) -> None:
    block = create_block(name, 128, **arguments).eval()
    assert cost(block, (1, 128, 9, 7)).macs == formula(128, 9, 7)
