"""GAM against its equations, and its edges."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.gam import GAM
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize("variant", ["authors", "paper"])
@pytest.mark.parametrize("grouped", [False, True])
def test_equations(variant: str, grouped: bool) -> None:
    block = GAM(16, reduction=4, grouped=grouped, variant=variant).double().eval()
    x = torch.randn(2, 16, 5, 4, dtype=torch.float64)
    hidden = torch.relu(torch.einsum("mc,nchw->nmhw", block.fc1.weight, x) + _map(block.fc1.bias))
    channel = torch.einsum("cm,nmhw->nchw", block.fc2.weight, hidden) + _map(block.fc2.bias)
    if variant == "paper":
        channel = torch.sigmoid(channel)
    z = x * channel
    for conv, last in ((block.conv1, False), (block.conv2, True)):
        weight = conv.weight
        if grouped:  # a grouped convolution is a dense one with zeros off the blocks
            o, i = weight.shape[:2]
            weight = torch.zeros(o, 4 * i, 7, 7, dtype=torch.float64)
            for k in range(o):
                start = k // (o // 4) * i
                weight[k, start : start + i] = conv.weight[k]
        z = (F.conv2d(z, weight, conv.bias, padding=3)) / (1 + 1e-5) ** 0.5
        z = z if last else torch.relu(z)
    spatial = torch.sigmoid(z)
    if grouped:
        spatial = torch.stack([spatial[:, i % 4 * 4 + i // 4] for i in range(16)], 1)
    expected = x * channel * spatial
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


def _map(bias: torch.Tensor) -> torch.Tensor:
    return bias[:, None, None]


@pytest.mark.parametrize(
    ("channels", "grouped", "parameters"),
    [(64, False, 102_720), (256, False, 1_639_680), (64, True, 27_456), (256, True, 435_456)],
)
def test_parameters(channels: int, grouped: bool, parameters: int) -> None:
    m, per_group = channels // 4, 4 if grouped else 1
    closed = 2 * channels * m + 98 * channels * m // per_group + 4 * channels + 4 * m
    count = sum(p.numel() for p in GAM(channels, grouped=grouped).parameters())
    assert count == closed == parameters


@pytest.mark.parametrize("size", [(4, 8, 8), (3, 3, 3)])
def test_bfloat16_gradients_in_three_axes(size: tuple[int, ...]) -> None:
    """Where an axis is shorter than the kernel PyTorch's own are far off, or end the process."""
    conv, x = GAM(16, ndim=3).conv1, torch.randn(2, 16, *size)
    cotangent = torch.randn(2, 4, *size)
    exact, found = (
        torch.autograd.grad(copied(x.to(dtype)), copied.weight, cotangent.to(dtype))[0].double()
        for dtype in (torch.float64, torch.bfloat16)
        for copied in (copy.deepcopy(conv).to(dtype),)
    )
    assert (found - exact).norm() <= 0.01 * exact.norm()


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="multiple of 4 and of reduction"):
        GAM(24, grouped=True)
