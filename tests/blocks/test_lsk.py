"""LSK's edges; its numbers are in the golden vectors."""

from __future__ import annotations

import pytest
import torch

from convattn.blocks.lsk import LSK
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize(("channels", "parameters"), [(64, 11_334), (256, 118_470), (512, 433_350)])
def test_parameters(channels: int, parameters: int) -> None:
    closed = 3 * channels**2 // 2 + 78 * channels + 198
    assert sum(p.numel() for p in LSK(channels).parameters()) == closed == parameters


def test_gate_is_not_a_sigmoid() -> None:
    assert LSK(8).gates(torch.randn(2, 8, 9, 9))[0].lt(0).any()


def test_receptive_field_is_23() -> None:
    """A value 11 positions away changes the first branch pair, one 12 away does not."""
    block = LSK(2).double()
    x = torch.zeros(1, 2, 27, 27, dtype=torch.float64, requires_grad=True)
    block.conv_spatial(block.conv0(x))[0, 0, 13, 13].backward()
    assert x.grad is not None
    touched = x.grad[0, 0].nonzero()
    assert touched.amin(0).tolist() == [2, 2]
    assert touched.amax(0).tolist() == [24, 24]


def test_refuses_one_channel() -> None:
    with pytest.raises(ArgumentError, match="channels >= 2"):
        LSK(1)


def test_odd_number_of_channels() -> None:
    assert LSK(3)(torch.randn(1, 3, 4, 5)).shape == (1, 3, 4, 5)
