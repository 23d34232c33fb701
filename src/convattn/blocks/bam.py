"""Bottleneck Attention Module (BAM): a channel and a spatial branch, one gate per value.

Park, Woo, Lee, Kweon: BAM: Bottleneck Attention Module, BMVC 2018.

    M_c = W1 relu(BN(W0 avgpool x))                                     (C)          (eq. 3)
    M_s = f_1x1 relu(BN(f_3x3 relu(BN(f_3x3 relu(BN(f_1x1 x))))))       (1, H, W)    (eq. 4)
    g   = sigmoid(M_c * M_s)      in the authors' code
    g   = sigmoid(M_c + M_s)      in the paper                                       (eq. 2)
    y   = x * (1 + g)                                                                (eq. 1)

Equation numbers are recalled, not checked against the paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._pooled import check_pooled_norm
from convattn.core.checks import check_choice, check_positive
from convattn.ops import global_mean

__all__ = ["BAM"]


class BAM(GateBlock):
    """Bottleneck Attention Module.

    Args:
        channels: C, at least `reduction`.
        reduction: hidden channels of both branches are m = C // reduction.
        dilation: of the two 3x3 convolutions.
        variant: "authors" multiplies the branches, "paper" adds them.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W). In training the channel
        branch's batch norm needs N > 1.

    Cost:
        3Cm + 18m^2 + C + 13m + 1 parameters, 2Cm + HW(Cm + 18m^2 + m) MACs.
    """

    info = Info(
        title="Bottleneck Attention Module",
        summary="Gates every value by a channel branch and a dilated spatial branch together.",
        paper="BAM: Bottleneck Attention Module, BMVC 2018",
        arxiv="1807.06514",
        year=2018,
        repository="Jongchan/attention-module",
        licence="MIT",
        positions=("stage_end",),
        aliases=("bottleneck_attention",),
        deviations=(
            "The code multiplies the branches where the paper's equation adds them: variant.",
            "Wrong in the authors' code as shipped: it does not construct (an undefined name) and "
            "pools square maps only; here any map.",
            "Wrong in External-Attention-pytorch: it has other layers and runs on 7x7 maps only.",
        ),
        min_channels=16,
    )

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_positive("BAM", "dilation", dilation)
        check_choice("BAM", "variant", variant, ("authors", "paper"))
        m = self._hidden(reduction)
        self.variant = variant
        self.fc1 = nn.Linear(channels, m)
        self.fc_bn = nn.BatchNorm1d(m)
        self.fc2 = nn.Linear(m, channels)
        conv, norm = conv_nd(ndim), batch_norm_nd(ndim)
        self.conv1 = conv(channels, m, 1)
        self.bn1 = norm(m)
        self.conv2 = conv(m, m, 3, padding=dilation, dilation=dilation)
        self.bn2 = norm(m)
        self.conv3 = conv(m, m, 3, padding=dilation, dilation=dilation)
        self.bn3 = norm(m)
        self.conv4 = conv(m, 1, 1)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        # a product of two zeros would have no gradient
        return [self.fc2, self.conv4] if self.variant == "paper" else [self.fc2]

    def gate(self, logits: Tensor) -> Tensor:
        """1 + sigmoid, which `gate_scale` 2 turns into 1 for logits of 0."""
        gate = 1 + torch.sigmoid(logits)
        return gate if self.gate_scale == 1.0 else gate * self.gate_scale / 3

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        check_pooled_norm(self, x.shape[0], "the map's means")
        channel = self._over_map(self.fc2(F.relu(self.fc_bn(self.fc1(global_mean(x))))))
        spatial = F.relu(self.bn1(self.conv1(x)))
        spatial = F.relu(self.bn2(self.conv2(spatial)))
        spatial = self.conv4(F.relu(self.bn3(self.conv3(spatial))))
        joined = channel + spatial if self.variant == "paper" else channel * spatial
        return (self.gate(joined),)
