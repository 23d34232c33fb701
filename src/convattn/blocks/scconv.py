"""Self-calibrated convolution (SCConv): a convolution gated by a coarser view of its input.

Liu, Hou, Cheng, Wang, Feng: Improving Convolutional Networks with Self-Calibrated Convolutions,
CVPR 2020.

    g = sigmoid(x + up(BN(K2 avgpool_r x)))     K: 3x3 convolutions; up: nearest
    y = BN(K4 (g * BN(K3 x)))

SCNet splits the channels of a bottleneck in halves: one goes through a 3x3 convolution, the other
through this one (`convattn.authors.scnet.SCBottleneck`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import ConvBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._pooled import check_pooled_norm
from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError

__all__ = ["SCConv"]


class SCConv(ConvBlock):
    """Self-calibrated convolution.

    Args:
        channels: C of the input.
        out_channels: of the output; None for C, the only width of the authors' code.
        stride: of the last convolution.
        pooling: r, window and stride of the average pooling.
        dilation: of the three convolutions.
        groups: of the three convolutions.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, out_channels, H / stride, W / stride), rounded up; any H, W: an axis
        shorter than r is averaged whole, but by a traced graph refused.

    Cost:
        18C^2 + 9CC' + 4C + 2C' parameters (27C^2 + 6C for C' = C);
        9C^2(HW + floor(H/r)floor(W/r)) + 9CC'H'W' MACs. Products of channels are divided by
        `groups`; in n axes 3^n in place of 9.
    """

    info = Info(
        title="Self-calibrated convolution",
        summary="A convolution whose values are gated by a convolution of the pooled input.",
        paper="Improving Convolutional Networks with Self-Calibrated Convolutions, CVPR 2020",
        year=2020,
        repository="MCG-NKU/SCNet",
        licence="MIT",
        positions=("conv3x3",),
        aliases=("scnet", "self_calibrated_conv"),
        deviations=(
            "The authors' code fails on maps with an axis shorter than the pooling window.",
            "The code interpolates to the nearest; nothing in it is bilinear.",
        ),
    )

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        pooling: int = 4,
        dilation: int = 1,
        groups: int = 1,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, out_channels, stride, ndim)
        check_positive("SCConv", "pooling", pooling)
        check_positive("SCConv", "dilation", dilation)
        check_positive("SCConv", "groups", groups)
        if channels % groups or self.out_channels % groups:
            raise ArgumentError(
                f"SCConv: channels={channels} and out_channels={self.out_channels} must be "
                f"multiples of groups={groups}"
            )
        self.pooling = pooling

        def layer(outputs: int, step: int = 1) -> nn.Sequential:
            conv = conv_nd(ndim)(
                channels, outputs, 3, step, dilation, dilation, groups=groups, bias=False
            )
            return nn.Sequential(conv, batch_norm_nd(ndim)(outputs))

        self.k2 = layer(channels)
        self.k3 = layer(channels)
        self.k4 = layer(self.out_channels, stride)

    def convolve(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        lengths = x.shape[2:]
        window = [self.pooling] * self.ndim
        if not torch.jit.is_tracing():  # type: ignore[attr-defined]  # sizes are tensors then
            window = [min(self.pooling, length) for length in lengths]
        pooled = _average(x, window)
        check_pooled_norm(self, pooled[:, 0].numel(), "the pooled map", "batch or map")
        coarse = F.interpolate(self.k2(pooled), lengths)
        gate = torch.sigmoid(x + coarse)
        calibrated = self.k3(x) * gate
        return self.k4(calibrated).to(x.dtype)


def _average(x: Tensor, window: list[int]) -> Tensor:
    """Average pooling; what does not fill a window at the end of an axis is left out."""
    if len(window) == 1:
        return F.avg_pool1d(x, window)
    if len(window) == 2:
        return F.avg_pool2d(x, window)
    # not avg_pool3d, whose gradient is not deterministic on CUDA
    slices = F.avg_pool2d(x.flatten(1, 2), window[1:])  # (N, C D, h, w)
    lines = slices.unflatten(1, (x.shape[1], -1)).movedim(2, -1)  # (N, C, h, w, D)
    pooled = F.avg_pool1d(lines.flatten(1, 3), window[0])
    return pooled.unflatten(1, lines.shape[1:4]).movedim(-1, 2)
