"""PSA against its equations, and its edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.psa import PSA
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize("variant", ["authors", "paper"])
@pytest.mark.parametrize("stride", [1, 2])
def test_equations(variant: str, stride: int) -> None:
    block = PSA(
        4, 8, stride, kernel_sizes=(1, 3, 5, 7), groups=(1, 2, 2, 1), reduction=2, variant=variant
    ).double()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    branches, z = [], []
    for conv, k, g in zip(block.convs, (1, 3, 5, 7), (1, 2, 2, 1), strict=True):
        f = F.conv2d(x, conv.weight, None, stride, k // 2, 1, g)
        hidden = torch.relu(block.fc1(f.mean((2, 3))))
        branches.append(f)
        z.append(torch.sigmoid(block.fc2(hidden)))
    total = sum(v.exp() for v in z)
    parts = [f * (v.exp() / total)[:, :, None, None] for f, v in zip(branches, z, strict=True)]
    expected = torch.cat(parts[::-1] if variant == "authors" else parts, 1)
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("channels", [64, 128, 512])
def test_parameters(channels: int) -> None:
    m, h = channels // 4, channels // 64
    convs = sum(k * k * channels * m // g for k, g in ((3, 1), (5, 4), (7, 8), (9, 16)))
    assert sum(p.numel() for p in PSA(channels).parameters()) == convs + 2 * m * h + h + m


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"channels": 24, "out_channels": 64}, "channels must be a multiple of 16"),
        ({"channels": 64, "out_channels": 96}, "out_channels of 64"),
        ({"channels": 64, "reduction": 32}, "out_channels >= 128"),
        ({"channels": 64, "groups": (1, 2)}, "groups must be 4 integers"),
        ({"channels": 64, "kernel_sizes": 3}, "kernel_sizes must be 4 integers, got 3"),
        ({"channels": 64, "kernel_sizes": (3, 5, 7, 8)}, "each of kernel_sizes must be odd"),
    ],
)
def test_refusals(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        PSA(**arguments)
