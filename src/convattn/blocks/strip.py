"""Strip attention: rows and columns of means, each smoothed by its own channel's kernel, added.

From timm (StripAttn, called "strip" there); no paper. Not Strip Pooling, which is `spm`.

    z^h = conv1d_k(mean of x over W)       z^w = conv1d_k(mean of x over H)       depthwise
    y   = x * sigmoid(z^h + z^w)
"""

from __future__ import annotations

from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_odd
from convattn.ops import strip_means

__all__ = ["Strip"]


class Strip(GateBlock):
    """Strip attention.

    Args:
        channels: C.
        kernel_size: k, odd.
        bias: biases in the convolutions.
        conv: False leaves the convolutions out.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W).

    Cost:
        2kC parameters (2kC + 2C with bias, none without convolutions), kC(H+W) MACs.
    """

    info = Info(
        title="Strip attention",
        summary="Gates by the sum of row means and column means, each smoothed along its strip.",
        year=2025,
        repository="huggingface/pytorch-image-models",
        licence="Apache-2.0",
        positions=("before_add",),
        aliases=("strip_attn",),
        deviations=("Without paper; timm's class is the definition.",),
    )
    no_identity = "With conv=False it has no parameter: its gate is a fixed function of the map."

    def __init__(
        self, channels: int, *, kernel_size: int = 3, bias: bool = False, conv: bool = True
    ) -> None:
        super().__init__(channels)
        check_odd("Strip", "kernel_size", kernel_size)
        pad = kernel_size // 2
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=pad, groups=channels, bias=bias)
            for _ in range(2 * conv)
        )

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return list(self.convs)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        rows, columns = strip_means(x)  # (N, C, H), (N, C, W)
        if self.convs:
            rows, columns = self.convs[0](rows), self.convs[1](columns)
        return (self.gate(rows.unsqueeze(3) + columns.unsqueeze(2)),)
