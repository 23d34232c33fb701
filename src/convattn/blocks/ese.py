"""Effective squeeze and excitation (eSE): SE with one layer and no reduction of channels.

Lee, Park: CenterMask: Real-Time Anchor-Free Instance Segmentation, CVPR 2020 (VoVNetV2).

    z = mean of x over H, W
    g = sigma(W z)                C -> C
    y = x * g

sigma is relu6(t + 3) / 6 in the authors' code, the logistic function in the paper (recalled, not
verified).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_choice
from convattn.ops import global_mean

__all__ = ["ESE"]


class ESE(GateBlock):
    """Effective squeeze and excitation.

    Args:
        channels: C.
        variant: "authors" has the piecewise linear sigma, "paper" the logistic function.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1).

    Cost:
        C^2 + C parameters, C^2 MACs.
    """

    info = Info(
        title="Effective squeeze and excitation",
        summary="Gates channels by one full layer on their means.",
        paper="CenterMask: Real-Time Anchor-Free Instance Segmentation, CVPR 2020",
        arxiv="1911.06667",
        year=2020,
        repository="youngwanLEE/vovnet-detectron2",
        licence="CC BY-NC 4.0",
        positions=("before_add",),
        aliases=("effective_se", "effective_squeeze_excite"),
        deviations=(
            "The authors' code has the piecewise linear sigmoid; the paper, as recalled and not "
            "verified, the logistic function. timm follows the code.",
        ),
    )

    def __init__(self, channels: int, *, variant: str = "authors", ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        check_choice("ESE", "variant", variant, ("authors", "paper"))
        self.variant = variant
        self.fc = nn.Linear(channels, channels)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.fc]

    def gate(self, logits: Tensor) -> Tensor:
        """Sigma, times `gate_scale`."""
        if self.variant == "paper":
            return super().gate(logits)
        gate = F.hardsigmoid(logits)
        return gate if self.gate_scale == 1.0 else gate * self.gate_scale

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        return (self._over_map(self.gate(self.fc(global_mean(x)))),)
