"""BAM: its two variants, its cost, and what it says about one image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.blocks.bam import BAM
from convattn.core.errors import InputError
from convattn.cost import cost


def test_branches_are_added_in_the_paper() -> None:
    block = BAM(4, reduction=2, variant="paper").double().eval()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)

    def norm(z: Tensor) -> Tensor:  # fresh statistics: mean 0, variance 1
        return z / (1 + 1e-5) ** 0.5

    hidden = norm(x.mean((2, 3)) @ block.fc1.weight.T + block.fc1.bias).clamp(min=0)
    channel = hidden @ block.fc2.weight.T + block.fc2.bias
    z = torch.einsum("oc,nchw->nohw", block.conv1.weight[..., 0, 0], x)
    z = norm(z + block.conv1.bias[:, None, None]).clamp(min=0)
    for conv in (block.conv2, block.conv3):
        z = norm(F.conv2d(z, conv.weight, conv.bias, padding=4, dilation=4)).clamp(min=0)
    spatial = torch.einsum("oc,nchw->nohw", block.conv4.weight[..., 0, 0], z) + block.conv4.bias
    expected = x * (1 + torch.sigmoid(channel[..., None, None] + spatial))
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def test_scaled_gate_of_zero_is_one() -> None:
    block = BAM(16)
    block.gate_scale = 2.0
    assert torch.equal(block.gate(torch.zeros(3)), torch.ones(3))


def test_one_image_in_training() -> None:
    with pytest.raises(InputError, match=r"BAM's batch norm.*Use a larger batch"):
        BAM(16)(torch.randn(1, 16, 8, 8))


@pytest.mark.parametrize("channels", [64, 256, 512])
def test_cost(channels: int) -> None:
    m, positions = channels // 16, 6 * 5
    counted = cost(BAM(channels), (1, channels, 6, 5))
    assert counted.parameters == 3 * channels * m + 18 * m * m + channels + 13 * m + 1
    assert counted.macs == 2 * channels * m + positions * (channels * m + 18 * m * m + m)


def test_published_parameters() -> None:
    sizes = [sum(p.numel() for p in BAM(c).parameters()) for c in (64, 256, 512)]
    assert sizes == [1173, 17361, 68513]
