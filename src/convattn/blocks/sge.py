"""Spatial Group-wise Enhance (SGE): one gate per group of channels and position.

Li, Hu, Yang: Spatial Group-wise Enhance, arXiv 2019.

    c_i = <mean of x over positions, x_i>      for the channels of one group, position i
    t_i = (c_i - mean of c) / (deviation of c + 1e-5)
    g_i = sigmoid(gamma t_i + beta)            gamma, beta per group
    y_i = x_i * g_i
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError, InputError

__all__ = ["SGE"]

_EPS = 1e-5


class SGE(GateBlock):
    """Spatial Group-wise Enhance.

    Args:
        channels: C, a multiple of `groups`; None for any such number.
        groups: G.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W), equal within a group. The
        deviation divides by HW - 1. On a map with one position t is 0, where the authors' is NaN;
        on a constant map the gradient of the deviation is 0, where theirs is NaN.

    Cost:
        2G parameters; no convolution or matrix product, so no MACs.
    """

    info = Info(
        title="Spatial Group-wise Enhance",
        summary="Gates positions per channel group by their likeness to the group's mean.",
        paper="Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional "
        "Networks, 2019",
        arxiv="1905.09646",
        year=2019,
        repository="implus/PytorchInsight",
        licence="no licence file",
        positions=("before_add",),
        aliases=("spatial_group_enhance", "spatial_groupwise_enhance"),
        deviations=(
            "Starts with gamma 0 and beta 1, as the authors.",
            "Wrong in External-Attention-pytorch: beta starts at 0.",
            "One position gives NaN in the authors' code; sigmoid(beta) here.",
        ),
        min_channels=64,
    )

    any_channels = True

    def __init__(self, channels: int | None, *, groups: int = 64, ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        check_positive("SGE", "groups", groups)
        if channels is not None and channels % groups:
            raise ArgumentError(_not_divisible(channels, groups))
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.ones(groups))

    def logit_layers(self) -> list[nn.Parameter]:
        """Zeroed for a start as the identity."""
        return [self.weight, self.bias]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        if not torch.jit.is_tracing() and x.shape[1] % self.groups:  # type: ignore[attr-defined]
            raise InputError(_not_divisible(x.shape[1], self.groups))
        # in float16 sums of squares overflow
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        grouped = precise.unflatten(1, (self.groups, -1))  # (N, G, C / G, H, W)
        axes = tuple(range(2, x.dim()))
        means = precise.mean(axes, keepdim=True).unflatten(1, (self.groups, -1))
        importance = (grouped * means).sum(2)  # (N, G, H, W)
        centred = importance - importance.mean(axes, keepdim=True)
        count = max(math.prod(x.shape[2:]) - 1, 1)
        deviation = torch.linalg.vector_norm(centred, 2, axes, keepdim=True) / count**0.5
        t = centred / (deviation + _EPS)
        logits = t * self._over_map(self.weight) + self._over_map(self.bias)
        return (self.gate(logits).unsqueeze(2).expand_as(grouped).flatten(1, 2),)


def _not_divisible(channels: int, groups: int) -> str:
    return (
        f"SGE: channels must be a multiple of groups={groups}, got {channels}; "
        f"use {max(channels // groups, 1) * groups} channels or fewer groups"
    )
