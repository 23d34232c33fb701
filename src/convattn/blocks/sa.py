"""Shuffle Attention (SA): half of each group's channels gated by means, half by positions.

Zhang, Yang: SA-Net, Shuffle Attention for Deep Convolutional Neural Networks, ICASSP 2021.

The channels are split into G groups that share all weights, each group into halves x_1, x_2.

    y_1 = x_1 * sigmoid(w_1 (mean of x_1) + b_1)
    y_2 = x_2 * sigmoid(w_2 GN(x_2) + b_2)             norm per channel
    y   = all groups' [y_1, y_2], channels shuffled: first half and second half interleaved
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError

__all__ = ["SA"]


class SA(GateBlock):
    """Shuffle Attention.

    Args:
        channels: C, a multiple of 2 * `groups`.
        groups: G.
        shuffle: False leaves the channel shuffle out; only then can the block be an identity.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W) for the map before the shuffle.

    Cost:
        3C / G parameters; no convolution or matrix product, so no MACs.
    """

    info = Info(
        title="Shuffle Attention",
        summary="Gates half of each group's channels by means, half by position, then shuffles.",
        paper="SA-Net: Shuffle Attention for Deep Convolutional Neural Networks, ICASSP 2021",
        arxiv="2102.00240",
        year=2021,
        repository="wofmanaf/SA-Net",
        licence="no licence file",
        positions=("before_add",),
        aliases=("sa_layer", "sa_net", "shuffle_attention"),
        deviations=(
            "The shuffle permutes the output, so that with all gates 1 the block is not an "
            "identity unless shuffle=False.",
            "Fewer channels than 2G divide by zero in the authors' code; refused here.",
            "External-Attention-pytorch has 8 groups by default.",
        ),
        min_channels=128,
    )
    no_identity = "The channel shuffle permutes the output; shuffle=False leaves it out."

    def __init__(
        self, channels: int, *, groups: int = 64, shuffle: bool = True, ndim: int = 2
    ) -> None:
        super().__init__(channels, ndim)
        check_positive("SA", "groups", groups)
        if channels % (2 * groups):
            raise ArgumentError(
                f"SA: channels must be a multiple of 2 * groups = {2 * groups}, got {channels}; "
                f"use {max(channels // (2 * groups), 1) * 2 * groups} channels or fewer groups"
            )
        self.groups = groups
        self.shuffle = shuffle
        half = channels // (2 * groups)
        self.channel_weight = nn.Parameter(torch.zeros(half))
        self.channel_bias = nn.Parameter(torch.ones(half))
        self.position_weight = nn.Parameter(torch.zeros(half))
        self.position_bias = nn.Parameter(torch.ones(half))
        self.gn = nn.GroupNorm(half, half)

    def can_start_as_identity(self) -> bool:
        """See `no_identity`."""
        return not self.shuffle

    def logit_layers(self) -> list[nn.Parameter]:
        """Zeroed for a start as the identity."""
        channel = [self.channel_weight, self.channel_bias]
        return [*channel, self.position_weight, self.position_bias]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        halves = x.unflatten(1, (self.groups, 2, -1))  # (N, G, 2, C / 2G, H, W)
        first, second = halves.unbind(2)
        means = first.mean(tuple(range(3, first.dim())), keepdim=True)
        logits = means * self._over_map(self.channel_weight) + self._over_map(self.channel_bias)
        channel = self.gate(logits).expand_as(first)
        logits = self._norm(second.flatten(0, 1)).view_as(second)
        logits = logits * self._over_map(self.position_weight) + self._over_map(self.position_bias)
        return (torch.stack((channel, self.gate(logits)), 2).flatten(1, 3),)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes), the channels shuffled."""
        y = super().forward(x)
        return y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2) if self.shuffle else y

    def _norm(self, x: Tensor) -> Tensor:
        """The norm without its check that there is more than one value: that one gives the bias."""
        return torch.group_norm(x, self.gn.num_groups, self.gn.weight, self.gn.bias, self.gn.eps)
