"""Concurrent spatial and channel squeeze and excitation (scSE): a channel and a spatial gate.

Roy, Navab, Wachinger: Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional
Networks, MICCAI 2018.

    g_c = sigmoid(W2 relu(W1 mean of x over H, W))      one gate per channel
    g_s = sigmoid(w x)                                  one gate per position
    y   = max(x * g_c, x * g_s)      in the authors' code
    y   = x * g_c + x * g_s          in the paper (recalled, not verified)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, conv_nd
from convattn.core.checks import check_choice
from convattn.ops import global_mean

__all__ = ["ScSE"]


class ScSE(GateBlock):
    """Concurrent spatial and channel squeeze and excitation.

    Args:
        channels: C, at least `reduction`.
        reduction: hidden channels are m = C // reduction.
        variant: "authors" takes the larger of the two products, "paper" their sum.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W).

    Cost:
        2Cm + m + 2C + 1 parameters, 2Cm + CHW MACs.
    """

    info = Info(
        title="Concurrent spatial and channel squeeze and excitation",
        summary="Gates channels and positions side by side and joins the two products.",
        paper="Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional "
        "Networks, MICCAI 2018",
        arxiv="1803.02579",
        year=2018,
        repository="ai-med/squeeze_and_excitation",
        licence="MIT",
        positions=("stage_end",),
        aliases=("scse_block", "concurrent_se"),
        deviations=(
            "The authors' code takes the larger product, which for negative x is the one with the "
            "smaller gate; the paper, as recalled and not verified, adds the products.",
            "segmentation_models.pytorch adds, with reduction 16.",
        ),
        min_channels=2,
    )

    def __init__(
        self, channels: int, *, reduction: int = 2, variant: str = "authors", ndim: int = 2
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("ScSE", "variant", variant, ("authors", "paper"))
        hidden = self._hidden(reduction)
        self.variant = variant
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.conv = conv_nd(ndim)(channels, 1, 1)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [] if self.variant == "paper" else [self.fc2, self.conv]

    def zero_layers(self) -> list[nn.Module]:
        """Of the sum, whose two halves make a gate of 1 that is not doubled."""
        return [self.fc2, self.conv] if self.variant == "paper" else []

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        channel = self._over_map(self.fc2(F.relu(self.fc1(global_mean(x)))))
        spatial = self.conv(x)
        if self.variant == "paper":  # two gates of one half add up to one: no `gate_scale` here
            return (torch.sigmoid(channel) + torch.sigmoid(spatial),)
        channel, spatial = self.gate(channel), self.gate(spatial)
        larger, smaller = torch.maximum(channel, spatial), torch.minimum(channel, spatial)
        return (torch.where(x > 0, larger, smaller),)
