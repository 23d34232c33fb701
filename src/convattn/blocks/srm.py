"""Style-based Recalibration Module (SRM): one gate per channel from its mean and deviation.

Lee, Kim, Nam: SRM, a Style-based Recalibration Module for CNNs, ICCV 2019.

    t = [mean of x, standard deviation of x]   over H, W, per channel
    z = w_1 t_1 + w_2 t_2                      two weights per channel
    g = sigmoid(BN(z))
    y = x * g
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.blocks._pooled import check_pooled_norm
from convattn.core.checks import check_choice
from convattn.ops import style_recalibration

__all__ = ["SRM"]

_EPS = 1e-5


class SRM(GateBlock):
    """Style-based Recalibration Module.

    Args:
        channels: C.
        variant: "authors" divides the squares by HW - 1; "paper" by HW.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1). In training the batch norm
        needs N > 1. The deviation is sqrt(variance + 1e-5), on a map with one position
        sqrt(1e-5), where the authors' is NaN.

    Cost:
        4C parameters; no convolution or matrix product, so no MACs.
    """

    info = Info(
        title="Style-based Recalibration Module",
        summary="Gates channels by their own mean and standard deviation.",
        paper="SRM: A Style-based Recalibration Module for Convolutional Neural Networks, "
        "ICCV 2019",
        arxiv="1903.10829",
        year=2019,
        repository="hyunjaelee410/style-based-recalibration-module",
        licence="no licence file",
        positions=("before_add",),
        aliases=("style_recalibration",),
        deviations=(
            "The authors' variance divides by HW - 1, so one position gives NaN; it is 0 here. "
            "Their first commit has no 1e-5 under the root.",
            "variant='paper' divides by HW as we recall the paper's equation; not verified.",
        ),
    )

    def __init__(self, channels: int, *, variant: str = "authors", ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        check_choice("SRM", "variant", variant, ("authors", "paper"))
        self.variant = variant
        self.cfc = nn.Parameter(torch.zeros(channels, 2))  # channel-wise fully connected
        self.bn = nn.BatchNorm1d(channels)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.bn]

    def start_as_identity(self) -> None:
        """As every block, and style weights of zero, as the authors start, become 1.

        With both them and the norm's weight at zero neither would ever have a gradient.
        """
        super().start_as_identity()
        with torch.no_grad():
            self.cfc.copy_(torch.where(self.cfc.any(), self.cfc, 1.0))

    def _whole(self, x: Tensor) -> Tensor | None:
        if self.training and x.shape[0] == 1:
            return None  # for `gates` to refuse
        return style_recalibration(
            x, self.cfc, self.bn, unbiased=self.variant == "authors", scale=self.gate_scale
        )

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        check_pooled_norm(self, x.shape[0], "one style per channel")
        styles = self._styles(x).to(self.cfc.dtype)  # (N, C, 2)
        return (self._over_map(self.gate(self.bn((styles * self.cfc).sum(2)))),)

    def _styles(self, x: Tensor) -> Tensor:
        """Mean and deviation, (N, C, *axes) -> (N, C, 2)."""
        # in float16 the square of 300 is infinite
        precise = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
        mean = precise.mean(2)
        count = math.prod(x.shape[2:])
        if self.variant == "authors":
            count = max(count - 1, 1)
        variance = (precise - mean.unsqueeze(2)).square().sum(2) / count
        return torch.stack((mean, (variance + _EPS).sqrt()), 2)
