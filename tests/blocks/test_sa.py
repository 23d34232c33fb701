"""Shuffle Attention against its equations, and its edges."""

from __future__ import annotations

import pytest
import torch

from convattn.blocks.sa import SA
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize("shuffle", [True, False])
def test_equations(shuffle: bool) -> None:
    block = SA(12, groups=2, shuffle=shuffle).double()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 12, 4, 3, dtype=torch.float64)
    out = torch.empty_like(x)
    for c in range(12):
        k, values = c % 3, x[:, c]
        if c % 6 < 3:  # first half of the group
            logits = values.mean((1, 2), keepdim=True) * block.channel_weight[k]
            logits = logits + block.channel_bias[k]
        else:
            variance, mean = torch.var_mean(values, (1, 2), correction=0, keepdim=True)
            normed = (values - mean) / (variance + 1e-5).sqrt()
            normed = normed * block.gn.weight[k] + block.gn.bias[k]
            logits = normed * block.position_weight[k] + block.position_bias[k]
        out[:, c] = values * torch.sigmoid(logits)
    if shuffle:  # 0, 6, 1, 7, ...
        out = out[:, [c // 2 + 6 * (c % 2) for c in range(12)]]
    torch.testing.assert_close(block(x), out, rtol=1e-11, atol=1e-11)


def test_one_position_at_batch_one() -> None:
    assert SA(2, groups=1)(torch.randn(1, 2, 1, 1)).isfinite().all()


def test_parameters() -> None:
    assert sum(p.numel() for p in SA(256).parameters()) == 3 * 256 // 64


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="use 128 channels or fewer groups"):
        SA(64)
    with pytest.raises(ArgumentError, match="use 128 channels"):
        SA(200)
