"""Simple Coordinate Attention: CA without norm, rows and columns added before one sigmoid.

From timm (SimpleCoordAttn, called "scoord" there); no paper. Not the coordinate attention of
variant "timm" of `ca`, which is timm's CoordAttn ("coord").

    z^h = mean of x over W             z^w = mean of x over H
    f^h = silu(F1 z^h)                 f^w = silu(F1 z^w)             F1: C -> m
    y   = x * sigmoid(F_h f^h + F_w f^w)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import GateBlock, Info
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_positive
from convattn.ops import mix_channels, strip_means

__all__ = ["SimpleCA"]


class SimpleCA(GateBlock):
    """Simple Coordinate Attention.

    Args:
        channels: C.
        reduction: hidden channels are m = C / reduction, rounded to a multiple of 8.
        bias: biases in the layers.
        axes: which axes are pooled to strips; None takes all: "l", "hw" or "dhw".
        variant: "timm", the only one.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W).

    Cost:
        3Cm + m + 2C parameters (3Cm without bias), 2Cm(H+W) MACs; one axis: 2Cm + m + C, 2CmH or
        2CmW.
    """

    info = Info(
        title="Simple Coordinate Attention",
        summary="Coordinate attention without norm; both strips are added before one sigmoid.",
        year=2025,
        repository="huggingface/pytorch-image-models",
        licence="Apache-2.0",
        positions=("before_add",),
        aliases=("scoord", "simple_coord"),
        deviations=("Without paper; timm's class is the definition.",),
    )

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 6,
        bias: bool = True,
        axes: str | None = None,
        variant: str = "timm",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("SimpleCA", "variant", variant, ("timm",))
        check_positive("SimpleCA", "reduction", reduction)
        hidden = rounded_width(channels / reduction, 8)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self._places = check_axes("SimpleCA", axes, ndim)
        for axis in self._places:
            self.add_module(f"fc_{axis}", nn.Linear(hidden, channels, bias=bias))

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [getattr(self, f"fc_{axis}") for axis in self._places]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        strips = strip_means(x)  # (N, C, H), (N, C, W)
        logits = []
        for axis, place in self._places.items():
            hidden = F.silu(_mix(strips[place], self.fc1))
            logits.append(spread(_mix(hidden, getattr(self, f"fc_{axis}")), place, self.ndim))
        return (self.gate(sum(logits[1:], start=logits[0])),)


def _mix(strip: Tensor, layer: nn.Linear) -> Tensor:
    return mix_channels(strip, layer.weight, layer.bias)
