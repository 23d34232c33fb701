"""GSoP: its covariances, the authors' stride, and its cost."""

from __future__ import annotations

import pytest
import torch

from convattn.blocks.gsop import GSoP, _covariance, _position_covariance
from convattn.cost import cost


def test_covariance_of_channels() -> None:
    z = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for n in range(2):
        expected = torch.cov(z[n].flatten(1), correction=0)
        torch.testing.assert_close(_covariance(z)[n], expected)


def test_covariance_of_positions_is_centred_for_64_channels() -> None:
    z = torch.randn(1, 64, 8, 8, dtype=torch.float64)
    expected = torch.cov(z[0].flatten(1).T, correction=0)
    torch.testing.assert_close(_position_covariance(z)[0], expected)
    centring = torch.eye(10, dtype=torch.float64) / 64 - 1 / 64**2  # the authors', for d = 10
    z = torch.randn(1, 10, 8, 8, dtype=torch.float64)
    expected = z[0].flatten(1).T @ centring @ z[0].flatten(1)
    torch.testing.assert_close(_position_covariance(z)[0], expected)


@pytest.mark.parametrize(("channels", "stride"), [(64, 2), (256, 2), (259, 2), (260, 1), (512, 1)])
def test_stride_of_the_authors(channels: int, stride: int) -> None:
    assert GSoP(channels).reduce.stride == (stride, stride)


def test_order_of_positions_does_not_matter() -> None:
    block, x = GSoP(6, dim=4, stride=1).eval(), torch.randn(2, 6, 4, 5)
    order = torch.randperm(20)
    y = block(x.flatten(2)[..., order].view_as(x))
    torch.testing.assert_close(y.flatten(2), block(x).flatten(2)[..., order])


@pytest.mark.parametrize(
    ("channels", "parameters"), [(256, 230_784), (512, 394_880), (1024, 723_072)]
)
def test_cost(channels: int, parameters: int) -> None:
    h, w = (3, 4) if channels == 256 else (5, 7)
    counted = cost(GSoP(channels), (1, channels, 5, 7))
    assert counted.parameters == parameters
    macs = channels * 128 * h * w + 128**2 * h * w + 4 * 128**2 + 4 * 128 * channels
    assert counted.macs == macs


def test_cost_of_positions() -> None:
    c, d, h, w = 16, 6, 9, 7
    counted = cost(GSoP(c, mode="position", dim=d), (1, c, h, w))
    assert counted.parameters == c * d + 3 * d + 33216
    macs = h * w * c * d + 64**2 * d + 2 * 4 * 64**2
    assert counted.macs == macs + 8 * d * (h * w + 8 * w) + 8 * (8 * h + h * w)


@pytest.mark.parametrize("mode", ["channel", "position"])
def test_products_do_not_overflow_in_float16(mode: str) -> None:
    torch.manual_seed(0)
    block = GSoP(8, mode=mode).eval()
    x = 300 * torch.randn(2, 8, 14, 14)
    expected = block(x)
    torch.testing.assert_close(block.half()(x.half()).float(), expected, rtol=0.02, atol=2)
