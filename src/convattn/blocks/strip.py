"""Strip attention: rows and columns of means, each smoothed by its own channel's kernel, added.

From timm (StripAttn, called "strip" there); no paper. Not Strip Pooling, which is `spm`.

    z^h = conv1d_k(mean of x over W)       z^w = conv1d_k(mean of x over H)       depthwise
    y   = x * sigmoid(z^h + z^w)
"""

from __future__ import annotations

from torch import Tensor, nn

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_choice, check_odd
from convattn.ops import strip_means

__all__ = ["Strip"]


class Strip(GateBlock):
    """Strip attention.

    Args:
        channels: C.
        kernel_size: k, odd.
        bias: biases in the convolutions.
        conv: False leaves the convolutions out.
        axes: which axes are pooled to strips; None takes all: "l", "hw" or "dhw".
        variant: "timm", the only one.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W).

    Cost:
        2kC parameters (2kC + 2C with bias, none without convolutions), kC(H+W) MACs; one axis has
        half the parameters, kCH or kCW MACs.
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
        self,
        channels: int,
        *,
        kernel_size: int = 3,
        bias: bool = False,
        conv: bool = True,
        axes: str | None = None,
        variant: str = "timm",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("Strip", "variant", variant, ("timm",))
        check_odd("Strip", "kernel_size", kernel_size)
        self._places = check_axes("Strip", axes, ndim)
        pad = kernel_size // 2
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=pad, groups=channels, bias=bias)
            for _ in (self._places if conv else ())
        )

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return list(self.convs)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        strips = strip_means(x)
        used = [strips[place] for place in self._places.values()]  # (N, C, H), (N, C, W)
        if self.convs:
            used = [conv(strip) for conv, strip in zip(self.convs, used, strict=True)]
        logits = [
            spread(strip, place, self.ndim)
            for strip, place in zip(used, self._places.values(), strict=True)
        ]
        return (self.gate(sum(logits[1:], start=logits[0])),)
