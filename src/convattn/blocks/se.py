"""Squeeze-and-Excitation (SE): one gate per channel from a two-layer network.

Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018.

    z = mean of x over H, W                    (eq. 2)
    g = sigmoid(W2 relu(W1 z))                 (eq. 3)
    y = x * g                                  (eq. 4)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_positive
from convattn.ops import global_mean, squeeze_excitation

__all__ = ["SE"]

_ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6}


class SE(GateBlock):
    """Squeeze-and-Excitation.

    Args:
        channels: C, at least `reduction`.
        reduction: hidden channels are m = C // reduction.
        bias: biases in both layers, as the authors' Caffe definition has them.
        act: "relu", or "relu6" as in the CA authors' mobile networks (with reduction 24).
        variant: "authors", or "timm": m rounded to a multiple of 8, so that C may be any.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1).

    Cost:
        2Cm + m + C parameters (2Cm without bias), 2Cm MACs.
    """

    info = Info(
        title="Squeeze-and-Excitation",
        summary="Gates channels by a two-layer network on their means.",
        paper="Squeeze-and-Excitation Networks, CVPR 2018",
        arxiv="1709.01507",
        year=2018,
        repository="hujie-frank/SENet",
        licence="Apache-2.0",
        positions=("before_add", "after_depthwise"),
        aliases=("senet", "squeeze_excite", "squeeze_excitation"),
        deviations=(
            "moskomule/senet.pytorch has no biases (bias=False); ECA-Net's tables count that one.",
            "The CA authors' mobile networks use reduction 24 and ReLU6.",
            "timm rounds the hidden channels to a multiple of 8; torchvision squeezes to a width "
            "given by hand.",
            "MiniFASNet has batch norms behind both layers; in evaluation they fold into the "
            "weights and biases, in training it is another block.",
        ),
        min_channels=16,
    )

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        bias: bool = True,
        act: str = "relu",
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("SE", "act", act, tuple(_ACTIVATIONS))
        check_choice("SE", "variant", variant, ("authors", "timm"))
        check_positive("SE", "reduction", reduction)
        timm = variant == "timm"
        hidden = rounded_width(channels / reduction, 8) if timm else self._hidden(reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)
        self.act = act

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.fc2]

    def _whole(self, x: Tensor) -> Tensor | None:
        return squeeze_excitation(
            x, self.fc1, self.fc2, relu6=self.act == "relu6", scale=self.gate_scale
        )

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        hidden = _ACTIVATIONS[self.act](self.fc1(global_mean(x)))
        return (self._over_map(self.gate(self.fc2(hidden))),)
