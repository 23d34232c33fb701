"""Mixed Pooling Module (MPM): pyramid pooling and strip pooling added to the map.

Hou, Zhang, Cheng, Feng: Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, CVPR 2020.

    a = relu(BN(W_a x))    b = relu(BN(W_b x))                             C -> m = C // 4
    p = conv(a) + up(conv(pool_20 a)) + up(conv(pool_12 a))                short range
    s = up(conv_3x1(mean of b over W)) + up(conv_1x3(mean of b over H))    long range
    y = relu(x + BN(W [relu(BN(conv relu p)), relu(BN(conv relu s))]))

Each conv is 3x3 m -> m with a batch norm; pool_k averages adaptively to k x k; up interpolates
bilinearly with aligned corners.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import ContextBlock, Info
from convattn.blocks._pooled import (
    adaptive_weights,
    check_pooled_norm,
    check_size,
    convolve_strip,
    linear_weights,
    resample,
)
from convattn.ops import strip_means

__all__ = ["MPM"]


class MPM(ContextBlock):
    """Mixed Pooling Module.

    Args:
        channels: C, at least 4.
        pools: sizes of the two pooled grids.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; not negative. In training the batch norms need
        N * H > 1 and N * W > 1.

    Cost:
        4Cm + 51m^2 + 18m + 2C parameters with m = C // 4;
        4CmHW + 27m^2HW + 3m^2(H+W) MACs, and for each pool p 9m^2p^2 and, pooling and
        interpolating as matrix products, m(2pHW + p^2(H+W)).
    """

    info = Info(
        title="Mixed Pooling Module",
        summary="Adds pyramid-pooled and strip-pooled context, then rectifies.",
        paper="Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, CVPR 2020",
        arxiv="2003.13328",
        year=2020,
        repository="houqb/SPNet",
        licence="MIT (the README adds: non-commercial)",
        positions=("head",),
        aliases=("mixed_pooling", "strip_pooling_head"),
        deviations=(
            "The authors put two of them in a row, on 1024 channels in the segmentation head.",
            "The output is rectified, so a zero-initialised last layer gives relu(x), not x.",
        ),
        min_channels=4,
    )
    no_identity = "The output is rectified: a context of 0 gives relu(x), not x."

    def __init__(self, channels: int, *, pools: tuple[int, int] = (20, 12)) -> None:
        super().__init__(channels)
        self.pools = check_size("MPM", "pools", pools, 2)
        m = self._hidden(4)
        self.reduce_a = _layer(channels, m, 1)
        self.reduce_b = _layer(channels, m, 1)
        self.full = _layer(m, m, 3)
        self.pooled = nn.ModuleList(_layer(m, m, 3) for _ in self.pools)
        self.conv_w, self.bn_w = _conv_norm(m, m, (1, 3))
        self.conv_h, self.bn_h = _conv_norm(m, m, (3, 1))
        self.short = _layer(m, m, 3)
        self.long = _layer(m, m, 3)
        self.expand = _layer(2 * m, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.relu(super().forward(x))

    def context(self, x: Tensor) -> Tensor:
        """(N, C, H, W), in front of the rectification."""
        n, _, h, w = x.shape
        for positions, pooled in ((h, "row means"), (w, "column means")):
            check_pooled_norm(self, n * positions, pooled, "batch or map")
        for size in self.pools:
            check_pooled_norm(self, n * size * size, "a pooled grid")
        a, b = F.relu(self.reduce_a(x)), F.relu(self.reduce_b(x))
        short = F.relu(self.short(F.relu(self._pyramid(a))))
        long = F.relu(self.long(F.relu(self._strips(b))))
        return self.expand(torch.cat((short, long), 1)).to(x.dtype)

    def _pyramid(self, a: Tensor) -> Tensor:
        (h, w), total = a.shape[2:], self.full(a)
        for size, layer in zip(self.pools, self.pooled, strict=True):
            pooled = layer(resample(a, adaptive_weights(size, h, a), adaptive_weights(size, w, a)))
            total = total + resample(pooled, linear_weights(h, size, a), linear_weights(w, size, a))
        return total

    def _strips(self, b: Tensor) -> Tensor:
        rows, columns = strip_means(b)
        along_h = self.bn_h(convolve_strip(rows, self.conv_h.weight)[..., None])
        along_w = self.bn_w(convolve_strip(columns, self.conv_w.weight)[..., None, :])
        return along_h + along_w


def _conv_norm(inputs: int, outputs: int, kernel: tuple[int, int]) -> tuple[nn.Conv2d, nn.Module]:
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
    return conv, nn.BatchNorm2d(outputs)


def _layer(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(inputs, outputs, (kernel, kernel)))
