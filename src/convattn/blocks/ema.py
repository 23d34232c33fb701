"""Efficient Multi-scale Attention (EMA): one gate per group of channels and position.

Ouyang et al.: Efficient Multi-Scale Attention Module with Cross-Spatial Learning, ICASSP 2023.

The channels are split into G groups that share all weights; x is one group of c = C / G channels.

    [f^h, f^w] = F [mean of x over W, mean of x over H]            F: 1x1, c -> c
    a = GN(x * sigmoid(f^h) * sigmoid(f^w))                        norm per channel
    b = conv_3x3(x)
    t = softmax_c(mean of a) . b + softmax_c(mean of b) . a        a map (H, W) per group
    y = x * sigmoid(t)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import GateBlock, Info, conv_nd
from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError
from convattn.ops import apply_gates, global_mean, mix_channels, strip_means

__all__ = ["EMA"]


class EMA(GateBlock):
    """Efficient Multi-scale Attention.

    Args:
        channels: C, a multiple of `groups`.
        groups: G; the authors' argument `factor`.
        axes: which axes are pooled to strips; None takes all: "l", "hw" or "dhw".
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W), equal within a group.

    Cost:
        10c^2 + 4c parameters with c = C / G, G(c^2 (H+W) + 9c^2 HW + 2cHW) MACs; in
        n axes 3^n in place of 9.
    """

    info = Info(
        title="Efficient Multi-scale Attention",
        summary="Gates positions per channel group by crossing a strip branch with a 3x3 branch.",
        paper="Efficient Multi-Scale Attention Module with Cross-Spatial Learning, ICASSP 2023",
        arxiv="2305.13563",
        year=2023,
        repository="YOLOonMe/EMA-attention-module",
        licence="no licence file",
        positions=("before_add", "after_depthwise"),
        aliases=("efficient_multi_scale_attention",),
        deviations=(
            "With one channel per group both softmaxes are 1 and the gate is sigmoid(a + b).",
            "Group norm of a single position gives its bias here; torch's own refuses it at "
            "batch 1 with one group.",
        ),
        min_channels=32,
    )

    def __init__(
        self, channels: int, *, groups: int = 32, axes: str | None = None, ndim: int = 2
    ) -> None:
        super().__init__(channels, ndim)
        check_positive("EMA", "groups", groups)
        if channels % groups:
            raise ArgumentError(
                f"EMA: channels must be a multiple of groups={groups}, got {channels}; "
                f"use {max(channels // groups, 1) * groups} channels or fewer groups"
            )
        self.groups = groups
        self._places = check_axes("EMA", axes, ndim)
        width = channels // groups
        self.gn = nn.GroupNorm(width, width)
        self.conv1x1 = conv_nd(ndim)(width, width, 1)
        self.conv3x3 = conv_nd(ndim)(width, width, 3, padding=1)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        # t is linear in each of a and b: with both 0 it is 0, and each has a gradient
        return [self.gn, self.conv3x3]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        grouped = x.unflatten(1, (self.groups, -1))  # (N, G, c, H, W)
        folded = grouped.flatten(0, 1)  # (N G, c, H, W)
        means = strip_means(folded)
        strips = [means[place] for place in self._places.values()]  # (N G, c, H), (N G, c, W)
        mixed = mix_channels(torch.cat(strips, 2), self.conv1x1.weight, self.conv1x1.bias)
        gates = mixed.sigmoid().split([s.shape[2] for s in strips], 2)
        inside = zip(gates, self._places.values(), strict=True)
        a = self._norm(
            apply_gates(folded, tuple(spread(gate, place, self.ndim) for gate, place in inside))
        )
        b = self.conv3x3(folded)
        t = _weigh(global_mean(a), b) + _weigh(global_mean(b), a)  # (N G, H, W)
        gate = self.gate(t).view(x.shape[0], self.groups, 1, *x.shape[2:])
        return (gate.expand_as(grouped).flatten(1, 2),)

    def _norm(self, x: Tensor) -> Tensor:
        """The norm without its check that there is more than one value: that one gives the bias."""
        return torch.group_norm(x, self.gn.num_groups, self.gn.weight, self.gn.bias, self.gn.eps)


def _weigh(means: Tensor, x: Tensor) -> Tensor:
    """Sum of the channels of x, weighted by the softmax of `means`: (N, c), (N, c, H, W)."""
    weights = means.softmax(1).unsqueeze(1).to(x.dtype)
    return torch.matmul(weights, x.flatten(2)).view(x.shape[0], *x.shape[2:])
