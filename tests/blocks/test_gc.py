"""Global Context: its start, its fusions against the equations, and its cost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convattn import authors
from convattn.blocks.gc import GC
from convattn.core.errors import ArgumentError
from convattn.cost import cost


def transform(layers: nn.Module, c: Tensor) -> Tensor:
    first, norm, _, last = layers
    z = torch.einsum("mc,nc->nm", first.weight, c) + first.bias
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    z = (z * norm.weight + norm.bias).clamp(min=0)
    return torch.einsum("cm,nm->nc", last.weight, z) + last.bias


@pytest.mark.parametrize("pooling", ["att", "avg"])
@pytest.mark.parametrize("fusion", ["add", "mul", "mul_add"])
def test_equations(pooling: str, fusion: str) -> None:
    block = GC(6, reduction=2, pooling=pooling, fusion=fusion).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    c = x.mean((2, 3))
    if pooling == "att":
        logits = torch.einsum("c,nchw->nhw", block.mask.weight[0, :, 0, 0], x)
        weights = logits.exp() / logits.exp().sum((1, 2), keepdim=True)
        c = torch.einsum("nchw,nhw->nc", x, weights)
    expected = x
    if "mul" in fusion:
        expected = expected * torch.sigmoid(transform(block.mul, c))[..., None, None]
    if "add" in fusion:
        expected = expected + transform(block.add, c)[..., None, None]
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def test_starts_as_the_identity() -> None:
    x = torch.randn(2, 16, 5, 4)
    assert torch.equal(GC(16)(x), x)
    assert torch.equal(GC(16, fusion="mul")(x), x / 2)


def test_authors_arguments() -> None:
    source = "xvjiarui/GCNet:mmdet/ops/gcb/context_block.py:ContextBlock"
    with pytest.raises(ArgumentError, match="fusion_types"):
        authors.create(source, inplanes=16, ratio=0.25, fusion_types=["channel_sum"])


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_cost(channels: int) -> None:
    m = channels // 16
    counted = cost(GC(channels), (1, channels, 6, 5))
    assert counted.parameters == channels + 1 + 2 * channels * m + channels + 3 * m
    assert counted.macs == 2 * channels * 30 + 2 * channels * m
