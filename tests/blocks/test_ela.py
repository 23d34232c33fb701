"""ELA against its equations, and its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convattn.blocks.ela import ELA
from convattn.core.errors import ArgumentError


def strip_gate(z: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, groups: int) -> Tensor:
    """Zero-padded depthwise convolution, group norm and sigmoid of (N, C, L), in loops."""
    n, c, length = z.shape
    k = weight.shape[2]
    out = torch.zeros_like(z)
    for i in range(length):
        for t in range(k):
            j = i + t - k // 2
            if 0 <= j < length:
                out[:, :, i] += z[:, :, j] * weight[:, 0, t]
    grouped = out.view(n, groups, -1)
    centred = grouped - grouped.mean(2, keepdim=True)
    normed = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
    return torch.sigmoid(normed.view(n, c, length) * gamma[:, None] + beta[:, None])


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_equations(variant: str) -> None:
    block = ELA(16, variant=variant, norm_groups=4).double()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(2, 16, 5, 4, dtype=torch.float64)
    last = 0 if variant == "authors" else 1
    gates = [
        strip_gate(
            x.mean(axis), block.convs[i].weight, block.norms[i].weight, block.norms[i].bias, 4
        )
        for axis, i in ((3, 0), (2, last))
    ]
    expected = x * gates[0][:, :, :, None] * gates[1][:, :, None, :]
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("scale", "parameters"), [("tiny", 7), ("base", 9), ("small", 42), ("large", 58)]
)
def test_parameters(scale: str, parameters: int) -> None:
    assert sum(p.numel() for p in ELA(64, scale=scale).parameters()) == parameters * 64
    per_axis = ELA(64, scale=scale, variant="paper")
    assert sum(p.numel() for p in per_axis.parameters()) == 2 * parameters * 64


def test_one_position_is_gated_by_the_norm_bias() -> None:
    block, x = ELA(32, scale="tiny"), torch.randn(1, 32, 1, 1)  # torch's own norm refuses this
    torch.nn.init.constant_(block.norms[0].bias, 0.3)
    torch.testing.assert_close(block(x), x * torch.sigmoid(torch.tensor(0.3)) ** 2)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="use 32"):
        ELA(40)
    with pytest.raises(ArgumentError, match="multiple of the 32"):
        ELA(48, scale="tiny")
    with pytest.raises(ArgumentError, match="axes"):
        ELA(16, axes="d")
