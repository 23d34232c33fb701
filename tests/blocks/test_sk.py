"""Selective Kernel: more branches and other widths by the equations, refusals, cost."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.sk import SK
from convattn.core.errors import ArgumentError, InputError
from convattn.cost import cost


@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_equations(branches: int, stride: int) -> None:
    block = SK(4, 6, stride, branches=branches, groups=2, min_hidden=3).double().eval()
    x = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    scale = (1 + 1e-5) ** -0.5
    maps = []
    for i, branch in enumerate(block.branches, 1):
        u = F.conv2d(x, branch[0].weight, None, stride, i, i, groups=2)
        maps.append((u * scale).clamp(min=0))
    u = torch.stack(maps, 1)  # (N, M, C', H', W')
    z = torch.einsum("dc,nc->nd", block.fc1.weight, u.sum(1).mean((2, 3))) * scale
    logits = torch.einsum("kd,nd->nk", block.fc2.weight, z.clamp(min=0)).view(2, branches, 6)
    weights = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = torch.einsum("nmc,nmchw->nchw", weights, u)
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="multiple of 32"):
        SK(48)
    with pytest.raises(ArgumentError, match="branches"):
        SK(32, branches=0)
    with pytest.raises(InputError, match="Use a larger batch"):
        SK(32)(torch.randn(1, 32, 4, 4))


def test_cost() -> None:
    c, d, groups, positions = 128, 32, 32, 30
    counted = cost(SK(c), (1, c, 6, 5))
    assert counted.parameters == 22_080
    assert counted.macs == 18 * c * c * positions // groups + 3 * c * d
