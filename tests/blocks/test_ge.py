"""Gather-Excite with finite extents against torch's own layers, its refusals and its cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from convattn import authors
from convattn.blocks.ge import GE
from convattn.core.errors import ArgumentError, InputError
from convattn.cost import cost


def nearest(g: torch.Tensor, h: int, w: int) -> torch.Tensor:
    rows = [i * g.shape[2] // h for i in range(h)]
    columns = [j * g.shape[3] // w for j in range(w)]
    return g[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("extent", [2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (9, 8), (16, 3)])
def test_average_of_an_extent(extent: int, size: tuple[int, int]) -> None:
    block = GE(3, extent=extent)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    g = F.avg_pool2d(x, 2 * extent - 1, extent, extent - 1, count_include_pad=False)
    expected = x * torch.sigmoid(nearest(g, *size))
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["theta", "theta_plus"])
@pytest.mark.parametrize("extent", [2, 4, 8])
def test_convolutions_of_an_extent(mode: str, extent: int) -> None:
    block = GE(4, mode=mode, extent=extent, reduction=2).double().eval()
    x = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    g = x
    for i, conv in enumerate(block.gather):
        g = F.conv2d(g.clamp(min=0) if i else g, conv.weight, stride=2, padding=1, groups=4)
        g = g / (1 + 1e-5) ** 0.5
    assert len(block.gather) == {2: 1, 4: 2, 8: 3}[extent]
    if mode == "theta_plus":
        hidden = torch.einsum("mc,nchw->nmhw", block.down.weight, g.clamp(min=0))
        hidden = (hidden + block.down.bias[:, None, None]).clamp(min=0)
        g = torch.einsum("cm,nmhw->nchw", block.up.weight, hidden)
        g = g + block.up.bias[:, None, None]
    expected = x * torch.sigmoid(nearest(g, 9, 7))
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "theta"},
        {"mode": "theta", "size": (3, 3), "extent": 2},
        {"size": (3, 3)},
        {"bias": True},
        {"extent": 3},
        {"mode": "theta", "size": (3,)},
        {"mode": "theta", "size": 3},
        {"mode": "theta", "size": (3, 0)},
        {"mode": "theta_plus", "size": (3, 3), "reduction": 9},
    ],
)
def test_refuses_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        GE(8, **arguments)


def test_a_whole_map_fits_its_size_only() -> None:
    block = GE(4, mode="theta", size=(5, 6))
    assert block(torch.randn(2, 4, 5, 6)).shape == (2, 4, 5, 6)
    with pytest.raises(InputError, match=r"size=\(5, 6\)"):
        block(torch.randn(2, 4, 6, 5))
    with pytest.raises(InputError, match="larger batch"):
        block(torch.randn(1, 4, 5, 6))


def test_sizes_of_the_srm_port() -> None:
    source = "hyunjaelee410/style-based-recalibration-module:models/recalibration_modules.py:"
    sizes = [authors.create(f"{source}GELayer", channel=2, layer_idx=i).size for i in (1, 2, 3, 4)]
    assert sizes == [(56, 56), (28, 28), (14, 14), (7, 7)]


def test_cost() -> None:
    c, h, w, m = 16, 9, 7, 2
    plus = GE(c, mode="theta_plus", size=(h, w), reduction=8)
    counted = cost(plus, (1, c, h, w))
    assert counted.parameters == c * h * w + 2 * c + 2 * c * m + m + c
    assert counted.macs == c * h * w + 2 * c * m
    a, b = 3, 2  # 9 x 7 by an extent of 4
    minus = cost(GE(c, extent=4), (1, c, h, w))
    assert minus.parameters == 0
    assert minus.macs == c * (h * a * w + a * w * b) + c * (h * a * b + h * b * w)
    assert sum(p.numel() for p in GE(c, mode="theta", extent=8).parameters()) == 11 * c * 3


@pytest.mark.parametrize("mode", ["theta", "theta_plus"])
def test_identity_start_on_the_whole_map(mode: str) -> None:
    block = GE(32, mode=mode, size=(6, 5))
    block.start_as_identity()
    x, moved = torch.randn(8, 32, 6, 5), set()
    assert torch.equal(block.eval()(x), x)
    for _ in range(2):
        block.zero_grad()
        block(x).square().mean().backward()
        moved |= {key for key, p in block.named_parameters() if p.grad.any()}
        with torch.no_grad():
            for parameter in block.parameters():
                parameter -= 0.1 * parameter.grad
    assert moved == dict(block.named_parameters()).keys()
