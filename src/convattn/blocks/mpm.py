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

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import ContextBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._pooled import (
    adaptive_weights,
    check_pooled_norm,
    check_size,
    convolve_strip,
    linear_weights,
    resample,
    strip_layer,
)
from convattn.ops import strip_means

__all__ = ["MPM"]


class MPM(ContextBlock):
    """Mixed Pooling Module.

    Args:
        channels: C, at least 4.
        pools: sizes of the two pooled grids, along each axis.
        axes: which axes are pooled to strips; None takes all: "l", "hw" or "dhw".
        ndim: number of axes of the map; 1, 2 or 3.

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

    def __init__(
        self,
        channels: int,
        *,
        pools: tuple[int, int] = (20, 12),
        axes: str | None = None,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        self.pools = check_size("MPM", "pools", pools, 2)
        m = self._hidden(4)
        layer = partial(_layer, ndim)
        self.reduce_a = layer(channels, m, 1)
        self.reduce_b = layer(channels, m, 1)
        self.full = layer(m, m, 3)
        self.pooled = nn.ModuleList(layer(m, m, 3) for _ in self.pools)
        self._places = check_axes("MPM", axes, ndim)
        for axis, place in reversed(self._places.items()):
            conv, norm = strip_layer(m, place, ndim)
            self.add_module(f"conv_{axis}", conv)
            self.add_module(f"bn_{axis}", norm)
        self.short = layer(m, m, 3)
        self.long = layer(m, m, 3)
        self.expand = layer(2 * m, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return F.relu(super().forward(x))

    def context(self, x: Tensor) -> Tensor:
        """(N, C, H, W), in front of the rectification."""
        for axis, place in self._places.items():
            values = x.shape[0] * x.shape[2 + place]
            check_pooled_norm(self, values, f"means along {axis.upper()}", "batch or map")
        for size in self.pools:
            check_pooled_norm(self, x.shape[0] * size**self.ndim, "a pooled grid")
        a, b = F.relu(self.reduce_a(x)), F.relu(self.reduce_b(x))
        short = F.relu(self.short(F.relu(self._pyramid(a))))
        long = F.relu(self.long(F.relu(self._strips(b))))
        return self.expand(torch.cat((short, long), 1)).to(x.dtype)

    def _pyramid(self, a: Tensor) -> Tensor:
        lengths, total = a.shape[2:], self.full(a)
        for size, layer in zip(self.pools, self.pooled, strict=True):
            pooled = layer(resample(a, *(adaptive_weights(size, n, a) for n in lengths)))
            total = total + resample(pooled, *(linear_weights(n, size, a) for n in lengths))
        return total

    def _strips(self, b: Tensor) -> Tensor:
        means, total = strip_means(b), torch.zeros_like(b)
        for axis, place in self._places.items():
            convolved = convolve_strip(means[place], getattr(self, f"conv_{axis}").weight)
            total = total + getattr(self, f"bn_{axis}")(spread(convolved, place, self.ndim))
        return total


def _layer(ndim: int, inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    conv = conv_nd(ndim)(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, batch_norm_nd(ndim)(outputs))
