"""ECA-NS against its equation, and what ECA refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from convattn.blocks import create_block
from convattn.blocks.eca_ns import ECANS
from convattn.core.errors import ArgumentError
from convattn.cost import cost


@pytest.mark.parametrize(("channels", "k"), [(1, 1), (1, 3), (5, 3), (4, 7)])
def test_equation(channels: int, k: int) -> None:
    block = ECANS(channels, kernel_size=k).double()
    x = torch.randn(2, channels, 3, 4, dtype=torch.float64)
    y = block(x)
    for n in range(2):
        for c in range(channels):
            logit = 0.0
            for j in range(k):
                other = c + j - (k - 1) // 2
                if 0 <= other < channels:
                    logit += block.conv.weight[c, 0, j].item() * x[n, other].mean().item()
            expected = x[n, c] * torch.sigmoid(torch.tensor(logit, dtype=torch.float64))
            torch.testing.assert_close(y[n, c], expected, rtol=1e-12, atol=1e-12)


def test_equal_kernels_are_eca() -> None:
    shared = create_block("eca", 6, kernel_size=3)
    block = ECANS(6)
    with torch.no_grad():
        block.conv.weight.copy_(shared.conv.weight.expand(6, 1, 3))
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(block(x), shared(x))


def test_cost() -> None:
    counted = cost(ECANS(12, kernel_size=5), (1, 12, 6, 5))
    assert (counted.parameters, counted.macs) == (60, 60)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"gamma": "a"}, "gamma must be a positive number, got 'a'"),
        ({"b": "1"}, "b must be a finite number"),
        ({"b": float("inf")}, "b must be a finite number"),
        *(({"gamma": g}, "at most 129 with 64 channels.*larger gamma") for g in (1e-9, 5e-324)),
    ],
)
def test_what_eca_refuses(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        create_block("eca", 64, **arguments)
