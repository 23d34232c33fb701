"""SGE against its equations, and its edges."""

from __future__ import annotations

import pytest
import torch

from convattn.blocks.sge import SGE
from convattn.core.errors import ArgumentError, InputError


def test_equations() -> None:
    block = SGE(6, groups=2).double()
    with torch.no_grad():
        block.weight.normal_()
        block.bias.normal_()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    y = block(x)
    for n in range(2):
        for g in range(2):
            group = x[n, 3 * g : 3 * g + 3].flatten(1)  # (3, 12)
            importance = torch.einsum("c,ci->i", group.mean(1), group)
            t = (importance - importance.mean()) / (importance.std() + 1e-5)
            gate = torch.sigmoid(t * block.weight[g] + block.bias[g])
            expected = (group * gate).view(3, 3, 4)
            torch.testing.assert_close(y[n, 3 * g : 3 * g + 3], expected, rtol=1e-12, atol=1e-12)


def test_one_position_is_gated_by_beta() -> None:
    block, x = SGE(8, groups=4), torch.randn(2, 8, 1, 1)
    torch.nn.init.ones_(block.weight)
    torch.testing.assert_close(block(x), x * torch.sigmoid(torch.ones(())))


def test_constant_map_has_a_gradient() -> None:
    block = SGE(8, groups=4)
    torch.nn.init.ones_(block.weight)
    x = torch.ones(1, 8, 3, 3, requires_grad=True)
    block(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_any_number_of_channels() -> None:
    block = SGE(None, groups=4)
    assert block(torch.randn(1, 12, 3, 3)).shape == (1, 12, 3, 3)
    with pytest.raises(InputError, match="use 8 channels"):
        block(torch.randn(1, 10, 3, 3))
    with pytest.raises(ArgumentError, match="use 64 channels"):
        SGE(100)


def test_parameters() -> None:
    assert sum(p.numel() for p in SGE(128).parameters()) == 2 * 64
