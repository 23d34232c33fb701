"""EMA against its equations, and its edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.ema import EMA
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (4, 4)])
def test_equations(channels: int, groups: int) -> None:
    block, c = EMA(channels, groups=groups).double(), channels // groups
    for p in block.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, channels, 4, 3, dtype=torch.float64)
    y = block(x)
    mix, bias = block.conv1x1.weight[:, :, 0, 0], block.conv1x1.bias
    for n in range(2):
        for g in range(groups):
            part = x[n, g * c : g * c + c]
            rows = torch.sigmoid(torch.einsum("oc,ch->oh", mix, part.mean(2)) + bias[:, None])
            columns = torch.sigmoid(torch.einsum("oc,cw->ow", mix, part.mean(1)) + bias[:, None])
            a = torch.einsum("chw,ch,cw->chw", part, rows, columns)
            variance, mean = torch.var_mean(a, (1, 2), correction=0, keepdim=True)
            a = (a - mean) / (variance + 1e-5).sqrt()
            a = a * block.gn.weight[:, None, None] + block.gn.bias[:, None, None]
            b = F.conv2d(part[None], block.conv3x3.weight, block.conv3x3.bias, padding=1)[0]
            t = torch.einsum("c,chw->hw", a.mean((1, 2)).softmax(0), b)
            t = t + torch.einsum("c,chw->hw", b.mean((1, 2)).softmax(0), a)
            expected = part * torch.sigmoid(t)
            torch.testing.assert_close(y[n, g * c : g * c + c], expected, rtol=1e-11, atol=1e-11)


def test_one_position_at_batch_one() -> None:
    assert EMA(4, groups=1)(torch.randn(1, 4, 1, 1)).isfinite().all()


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_parameters(channels: int) -> None:
    c = channels // 32
    assert sum(p.numel() for p in EMA(channels).parameters()) == 10 * c * c + 4 * c


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="use 64 channels"):
        EMA(80)
