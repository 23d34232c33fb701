"""Large Selective Kernel (LSK): a gate per value from two large receptive fields.

Li et al.: Large Selective Kernel Network for Remote Sensing Object Detection, ICCV 2023.

    u_1 = F_1 a_1, a_1 = depthwise 5x5 of x                        F_1, F_2: 1x1, C -> C/2
    u_2 = F_2 a_2, a_2 = depthwise 7x7, dilation 3, of a_1         receptive field 23
    [s_1, s_2] = sigmoid(conv_7x7 [mean, max over channels of [u_1, u_2]])
    y = x * F(u_1 s_1 + u_2 s_2)                                   F: 1x1, C/2 -> C; no sigmoid
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, conv_nd
from convattn.core.errors import ArgumentError

__all__ = ["LSK"]


class LSK(GateBlock):
    """Large Selective Kernel unit.

    Args:
        channels: C, at least 2; C // 2 between the 1x1 convolutions.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W) of any sign.

    Cost:
        1.5C^2 + 78C + 198 parameters, HW(1.5C^2 + 74C + 196) MACs, for even C.
    """

    info = Info(
        title="Large Selective Kernel",
        summary="Gates every value by a selection between two large-kernel branches.",
        paper="Large Selective Kernel Network for Remote Sensing Object Detection, ICCV 2023",
        arxiv="2303.09030",
        year=2023,
        repository="zcablii/LSKNet",
        licence="CC BY-NC 4.0",
        positions=("between_pointwise",),
        aliases=("lsk_block", "lsknet"),
        deviations=(
            "The gate is the output of a convolution, not of a sigmoid: it may be negative.",
            "In LSKNet it stands between 1x1-GELU and 1x1 with a shortcut round the three.",
        ),
        min_channels=2,
    )

    def __init__(self, channels: int, *, ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        if channels < 2:
            raise ArgumentError(f"LSK halves its channels: use channels >= 2, got {channels}")
        conv, half = conv_nd(ndim), channels // 2
        self.conv0 = conv(channels, channels, 5, padding=2, groups=channels)
        self.conv_spatial = conv(channels, channels, 7, padding=9, groups=channels, dilation=3)
        self.conv1 = conv(channels, half, 1)
        self.conv2 = conv(channels, half, 1)
        self.conv_squeeze = conv(2, 2, 7, padding=3)
        self.conv = conv(half, channels, 1)

    def unit_layers(self) -> list[nn.Module]:
        """The gate itself: 1 for a start as the identity."""
        return [self.conv]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        near = self.conv0(x)
        u1, u2 = self.conv1(near), self.conv2(self.conv_spatial(near))
        both = torch.cat((u1, u2), 1)
        pooled = torch.cat((both.mean(1, keepdim=True), both.max(1, keepdim=True).values), 1)
        s1, s2 = self.conv_squeeze(pooled).sigmoid().split(1, 1)  # (N, 1, H, W) each
        return (self.conv(u1 * s1 + u2 * s2),)
