"""GALA: what its variants share, and its cost."""

from __future__ import annotations

import pytest
import torch

from convattn.blocks.gala import GALA
from convattn.cost import cost


def test_variants_meet_where_the_global_branch_is_positive() -> None:
    block, linear = GALA(8), GALA(8, variant="linear")
    with torch.no_grad():
        block.fc1.bias.fill_(100)  # nothing to rectify then
    linear.load_state_dict(block.state_dict())
    x = torch.randn(2, 8, 5, 4)
    assert torch.equal(block(x), linear(x))


def test_tanh_of_the_paper_can_turn_signs() -> None:
    gate = GALA(8, variant="paper").gates(torch.randn(2, 8, 6, 5))[0]
    assert (gate.abs() <= 1).all()
    assert (gate < 0).any()


@pytest.mark.parametrize("channels", [256])
def test_cost(channels: int) -> None:
    m = channels // 4
    counted = cost(GALA(channels), (1, channels, 6, 5))
    assert counted.parameters == 152_577
    assert counted.macs == 30 * (channels * m + 25 * m * m + m) + 2 * channels * m
