"""Self-calibrated convolution: small maps, other widths, the bottleneck, cost."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convattn import authors
from convattn.blocks.scconv import SCConv
from convattn.core.errors import ArgumentError, InputError
from convattn.cost import cost

BOTTLENECK = "MCG-NKU/SCNet:scnet.py:SCBottleneck"


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (2, 4), (4, 1)])
def test_axes_shorter_than_the_window(size: tuple[int, int]) -> None:
    block = SCConv(3, 5).double().eval()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    scale = (1 + 1e-5) ** -0.5
    pooled = F.avg_pool2d(x, (min(4, size[0]), min(4, size[1])))
    coarse = F.conv2d(pooled, block.k2[0].weight, padding=1) * scale
    gate = torch.sigmoid(x + F.interpolate(coarse, size))
    calibrated = gate * F.conv2d(x, block.k3[0].weight, padding=1) * scale
    expected = F.conv2d(calibrated, block.k4[0].weight, padding=1) * scale
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def test_one_pooled_position_in_training() -> None:
    with pytest.raises(InputError, match="larger batch or map"):
        SCConv(4)(torch.randn(1, 4, 5, 6))
    assert SCConv(4)(torch.randn(1, 4, 8, 6)).isfinite().all()


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="groups=2"):
        SCConv(3, groups=2)
    with pytest.raises(ArgumentError, match="planes == inplanes"):
        authors.create(
            "MCG-NKU/SCNet:scnet.py:SCConv",
            inplanes=4,
            planes=8,
            stride=1,
            padding=1,
            dilation=1,
            groups=1,
            pooling_r=4,
        )


def test_bottleneck_with_stride() -> None:
    shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
    block = authors.create(BOTTLENECK, inplanes=16, planes=8, stride=2, downsample=shortcut)
    assert block(torch.randn(2, 16, 9, 8)).shape == (2, 32, 5, 4)
    keys = authors.to_authors(block, source=BOTTLENECK)
    assert "downsample.0.weight" in keys
    assert "scconv.k2.1.weight" in keys


def test_cost() -> None:
    c, out, h, w = 8, 12, 9, 10
    square = cost(SCConv(c), (1, c, h, w))
    assert square.parameters == 27 * c * c + 6 * c
    assert square.macs == 9 * c * c * (2 * h * w + (h // 4) * (w // 4))
    wide = cost(SCConv(c, out, 2), (1, c, h, w))
    assert wide.parameters == 18 * c * c + 9 * c * out + 4 * c + 2 * out
    assert wide.macs == 9 * c * c * (h * w + (h // 4) * (w // 4)) + 9 * c * out * 5 * 5
