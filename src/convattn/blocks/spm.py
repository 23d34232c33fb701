"""Strip Pooling Module (SPM): every value gated from the row and the column that it lies in.

Hou, Zhang, Cheng, Feng: Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, CVPR 2020.

    p^h = mean of x over W    p^w = mean of x over H
    q^h = BN(conv_3x1 p^h)    q^w = BN(conv_1x3 p^w)        C -> C, along each strip
    g   = sigmoid(W relu(q^h + q^w))                        q^h, q^w spread over the map
    y   = x * g
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.blocks._pooled import check_pooled_norm, convolve_strip
from convattn.ops import strip_means

__all__ = ["SPM"]


class SPM(GateBlock):
    """Strip Pooling Module.

    Args:
        channels: C.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W). In training the batch norms
        need N * H > 1 and N * W > 1.

    Cost:
        7C^2 + 5C parameters, 3C^2(H+W) + C^2HW MACs.
    """

    info = Info(
        title="Strip Pooling Module",
        summary="Convolves row means and column means, sums them over the map and gates every "
        "value.",
        paper="Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, CVPR 2020",
        arxiv="2003.13328",
        year=2020,
        repository="houqb/SPNet",
        licence="MIT (the README adds: non-commercial)",
        positions=("before_project",),
        aliases=("strip_pooling", "spblock"),
        deviations=(
            "Texts describe an interpolation of the strips to the map; the code spreads them, "
            "which is the same for strips one position wide.",
            "The authors' class returns the gate and their bottleneck multiplies (after its second "
            "convolution, norm and activation); this block returns the product.",
            "A later version of the authors' file adds biases in front of the batch norms; here "
            "none.",
        ),
    )

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv_h = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), bias=False)
        self.bn_h = nn.BatchNorm2d(channels)
        self.conv_w = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False)
        self.bn_w = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.conv]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        rows, columns = strip_means(x)
        check_pooled_norm(self, rows[:, 0].numel(), "row means", "batch or map")
        check_pooled_norm(self, columns[:, 0].numel(), "column means", "batch or map")
        q_h = self.bn_h(convolve_strip(rows, self.conv_h.weight)[..., None])  # (N, C, H, 1)
        q_w = self.bn_w(convolve_strip(columns, self.conv_w.weight)[..., None, :])  # (N, C, 1, W)
        return (self.gate(self.conv(F.relu(q_h + q_w))),)
