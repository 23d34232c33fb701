"""FcaNet's attention against its equations, and its edges."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.fca import FCA
from convattn.core.errors import ArgumentError


def basis(f: int, p: int, size: int) -> float:
    value = math.cos(math.pi * f * (p + 0.5) / size) / math.sqrt(size)
    return value * math.sqrt(2) if f else value


@pytest.mark.parametrize(
    ("frequencies", "pairs"),
    [
        ("top", [(0, 0), (0, 1), (6, 0), (0, 5)]),
        ("low", [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ("bot", [(6, 6), (1, 4), (3, 4), (3, 6)]),
    ],
)
@pytest.mark.parametrize("size", [(7, 14), (9, 4)])
def test_equations(frequencies: str, pairs: list[tuple[int, int]], size: tuple[int, int]) -> None:
    block = FCA(8, dct_size=(7, 14), frequencies=frequencies, count=4, reduction=2).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    block.basis.copy_(_loops(pairs))  # built in float32
    pooled = F.adaptive_avg_pool2d(x, (7, 14))
    z = torch.einsum("nchw,chw->nc", pooled, _loops(pairs))
    gate = torch.sigmoid(torch.relu(z @ block.fc1.weight.T) @ block.fc2.weight.T)
    expected = x * gate[:, :, None, None]
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def _loops(pairs: list[tuple[int, int]]) -> torch.Tensor:
    rows = [
        [[basis(u, p, 7) * basis(2 * v, q, 14) for q in range(14)] for p in range(7)]
        for u, v in pairs
        for _ in range(2)  # channels per frequency
    ]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("frequencies", ["top", "low", "bot"])
def test_bases_are_the_equations(frequencies: str) -> None:
    pairs = {
        "top": [(0, 0), (0, 1), (6, 0), (0, 5)],
        "low": [(0, 0), (0, 1), (1, 0), (1, 1)],
        "bot": [(6, 6), (1, 4), (3, 4), (3, 6)],
    }[frequencies]
    block = FCA(8, dct_size=(7, 14), frequencies=frequencies, count=4, reduction=2)
    torch.testing.assert_close(block.basis, _loops(pairs).float())


def test_the_lowest_frequency_is_the_mean() -> None:
    block, x = FCA(16, count=1), torch.randn(2, 16, 7, 7)
    z = (x * block.basis).sum((2, 3))
    torch.testing.assert_close(z, 7 * x.mean((2, 3)))


@pytest.mark.parametrize("frequencies", ["top", "low", "bot"])
def test_thirty_two_different_frequencies(frequencies: str) -> None:
    block = FCA(32, frequencies=frequencies, count=32)
    assert len({tuple(part.flatten().tolist()) for part in block.basis}) == 32


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"count": 33}, "at most 32"),
        ({"count": 10}, "use 60 channels"),
        *(
            ({"dct_size": size}, "dct_size must be an integer of at least 7, or two")
            for size in (6, "7", 7.0, (7, 3), (7, 7, 7), None)
        ),
    ],
)
def test_refusals(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        FCA(64, **arguments)


def test_parameters() -> None:
    block = FCA(64)
    assert sum(p.numel() for p in block.parameters()) == 2 * 64 * 4
    assert block.basis.numel() == 64 * 49
