"""Simple Coordinate Attention: CA without norm, rows and columns added before one sigmoid.

From timm (SimpleCoordAttn, called "scoord" there); no paper.

    z^h = mean of x over W             z^w = mean of x over H
    f^h = silu(F1 z^h)                 f^w = silu(F1 z^w)             F1: C -> m
    y   = x * sigmoid(F_h f^h + F_w f^w)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_positive
from convattn.ops import mix_channels, strip_means

__all__ = ["SimpleCA"]


class SimpleCA(GateBlock):
    """Simple Coordinate Attention.

    Args:
        channels: C.
        reduction: hidden channels are m = C / reduction, rounded to a multiple of 8.
        bias: biases in the three layers.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W).

    Cost:
        3Cm + m + 2C parameters (3Cm without bias), 2Cm(H+W) MACs.
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

    def __init__(self, channels: int, *, reduction: int = 6, bias: bool = True) -> None:
        super().__init__(channels)
        check_positive("SimpleCA", "reduction", reduction)
        hidden = rounded_width(channels / reduction, 8)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc_h = nn.Linear(hidden, channels, bias=bias)
        self.fc_w = nn.Linear(hidden, channels, bias=bias)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.fc_h, self.fc_w]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        rows, columns = strip_means(x)  # (N, C, H), (N, C, W)
        rows = _mix(F.silu(_mix(rows, self.fc1)), self.fc_h)
        columns = _mix(F.silu(_mix(columns, self.fc1)), self.fc_w)
        return (self.gate(rows.unsqueeze(3) + columns.unsqueeze(2)),)


def _mix(strip: Tensor, layer: nn.Linear) -> Tensor:
    return mix_channels(strip, layer.weight, layer.bias)
