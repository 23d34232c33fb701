"""Triplet Attention: a gate for each pair of the axes C, H, W; "TA" of the CA paper.

Misra, Nalamada, Arasanipalai, Hou: Rotate to Attend, WACV 2021.

    zpool_d(x) = [max over d, mean over d]
    g_cw = sigmoid(BN(conv_7x7(zpool_H x)))   (C, W)
    g_hc = sigmoid(BN(conv_7x7(zpool_W x)))   (H, C)
    g_hw = sigmoid(BN(conv_7x7(zpool_C x)))   (H, W)
    y = (x * g_cw + x * g_hc + x * g_hw) / 3                                       (eq. 4)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_norm_input, check_odd

__all__ = ["Triplet"]


class Triplet(GateBlock):
    """Triplet Attention.

    Args:
        channels: C, or None for any; no parameter depends on it.
        kernel_size: of the three convolutions, odd.
        spatial: False leaves the (H, W) branch out and averages the other two.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W), the mean of the branches'.

    Cost:
        3(2k^2 + 2) parameters, 2k^2 (HW + CW + CH) MACs.
    """

    info = Info(
        title="Triplet Attention",
        summary="Gates each pair of the axes channel, height, width, and averages the three.",
        paper="Rotate to Attend: Convolutional Triplet Attention Module, WACV 2021",
        arxiv="2010.03045",
        year=2021,
        repository="landskape-ai/triplet-attention",
        licence="MIT",
        positions=("before_add",),
        aliases=("ta", "triplet_attention"),
        deviations=(
            "The authors rotate the tensor for each branch; the gates are computed in place here.",
            "The authors hard-code kernel 7 and have two incompatible sets of key names.",
        ),
    )

    any_channels = True

    def __init__(self, channels: int | None, *, kernel_size: int = 7, spatial: bool = True) -> None:
        super().__init__(channels)
        check_odd("Triplet", "kernel_size", kernel_size)
        self.cw = _Branch(kernel_size)
        self.hc = _Branch(kernel_size)
        if spatial:
            self.hw = _Branch(kernel_size)
        self.spatial = spatial

    @property
    def kernel_size(self) -> int:
        """Of the three convolutions."""
        return self.cw.conv.kernel_size[0]

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [branch.bn for branch in self.children() if isinstance(branch, _Branch)]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        cw = self.gate(self.cw(_zpool(x, 2))).transpose(1, 2)  # (N, 1, C, W) -> (N, C, 1, W)
        hc = self.gate(self.hc(_zpool(x, 3).transpose(2, 3))).permute(0, 3, 2, 1)  # (N, C, H, 1)
        if not self.spatial:
            return ((cw + hc) / 2,)
        return ((cw + hc + self.gate(self.hw(_zpool(x, 1)))) / 3,)


def _zpool(x: Tensor, dim: int) -> Tensor:
    """[max, mean] over `dim`, as two channels in front of the two remaining axes."""
    return torch.stack((x.max(dim).values, x.mean(dim)), 1)


class _Branch(nn.Module):
    """(N, 2, A, B) -> gate logits (N, 1, A, B)."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, pooled: Tensor) -> Tensor:
        check_norm_input(self, pooled[:, 0].numel())
        return self.bn(self.conv(pooled))
