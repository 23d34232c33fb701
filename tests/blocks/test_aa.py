"""Attention-augmented convolution in loops, on maps larger than its tables, and its cost."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.aa import AA
from convattn.core.errors import ArgumentError
from convattn.cost import cost


@pytest.mark.parametrize("size", [(3, 4), (2, 2), (6, 5), (1, 1)])
def test_equations(size: tuple[int, int]) -> None:
    """Tables for 3 x 4; offsets beyond them take the farthest entry."""
    heads, dk, dv = 2, 4, 6
    block = AA(3, 8, heads=heads, key_channels=dk, value_channels=dv, size=(3, 4)).double()
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    weight, bias = block.qkv.weight[..., 0, 0], block.qkv.bias
    qkv = torch.einsum("oc,chw->ohw", weight, x[0]) + bias[:, None, None]
    q, k, v = qkv[:dk], qkv[dk : 2 * dk], qkv[2 * dk :]
    d, e = dk // heads, dv // heads
    places = [(i, j) for i in range(size[0]) for j in range(size[1])]
    joined = torch.zeros(dv, *size, dtype=torch.float64)
    for head in range(heads):
        part, values = slice(head * d, head * d + d), slice(head * e, head * e + e)
        for y0, x0 in places:
            query = q[part, y0, x0] / math.sqrt(d)
            logits = []
            for y1, x1 in places:
                row = min(max(y1 - y0, -2), 2) + 2
                column = min(max(x1 - x0, -3), 3) + 3
                key = k[part, y1, x1] + block.rel_h[row] + block.rel_w[column]
                logits.append((query * key).sum())
            weights = torch.stack(logits).softmax(0)
            total = sum(a * v[values, i, j] for a, (i, j) in zip(weights, places, strict=True))
            joined[values, y0, x0] = total
    attended = torch.einsum("oc,chw->ohw", block.project.weight[..., 0, 0], joined)
    attended = attended + block.project.bias[:, None, None]
    expected = torch.cat((F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)[0], attended))
    torch.testing.assert_close(block(x)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [(7, 6), (8, 5), (1, 1)])
def test_stride(size: tuple[int, int]) -> None:
    y = AA(16, 24, stride=2)(torch.randn(2, 16, *size))
    assert y.shape == (2, 24, -(-size[0] // 2), -(-size[1] // 2))


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="multiple of heads=8"):
        AA(64, key_channels=20)
    with pytest.raises(ArgumentError, match="use at least 9 channels"):
        AA(8)
    with pytest.raises(ArgumentError, match="size"):
        AA(64, size=(3, 4, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("relative", [True, False])
def test_cost(relative: bool) -> None:
    c, out, dk, dv, heads, h, w = 12, 16, 8, 4, 2, 6, 5
    block = AA(
        c, out, heads=heads, key_channels=dk, value_channels=dv, relative=relative, size=(5, 4)
    )
    parameters = (9 * c + 1) * (out - dv) + (c + 1) * (2 * dk + dv) + (dv + 1) * dv
    macs = h * w * (9 * c * (out - dv) + c * (2 * dk + dv) + dv**2 + h * w * (dk + dv))
    if relative:
        parameters += 2 * (5 + 4 - 1) * dk // heads
        macs += h * w * (h + w) * dk + (h * h * 9 + w * w * 7) * dk // heads
    counted = cost(block, (1, c, h, w))
    assert (counted.parameters, counted.macs) == (parameters, macs)
