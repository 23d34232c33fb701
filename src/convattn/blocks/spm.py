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

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import GateBlock, Info, conv_nd
from convattn.blocks._pooled import check_pooled_norm, convolve_strip, strip_layer
from convattn.ops import strip_means

__all__ = ["SPM"]


class SPM(GateBlock):
    """Strip Pooling Module.

    Args:
        channels: C.
        axes: which axes are pooled to strips; None takes all: "l", "hw" or "dhw".
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W). In training the batch norms
        need N * H > 1 and N * W > 1.

    Cost:
        7C^2 + 5C parameters, 3C^2(H+W) + C^2HW MACs; one axis: 4C^2 + 3C, 4C^2H or 4C^2W.
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
            "timm's StripAttn ('strip' there) is another block, here `strip`.",
        ),
    )

    def __init__(self, channels: int, *, axes: str | None = None, ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        self._places = check_axes("SPM", axes, ndim)
        for axis, place in self._places.items():
            conv, norm = strip_layer(channels, place, ndim)
            self.add_module(f"conv_{axis}", conv)
            self.add_module(f"bn_{axis}", norm)
        self.conv = conv_nd(ndim)(channels, channels, 1)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.conv]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        strips = strip_means(x)
        convolved = [
            self._convolve(strips[place], axis, place) for axis, place in self._places.items()
        ]  # (N, C, H, 1), (N, C, 1, W)
        return (self.gate(self.conv(F.relu(sum(convolved[1:], start=convolved[0])))),)

    def _convolve(self, strip: Tensor, axis: str, place: int) -> Tensor:
        """(N, C, L) -> what broadcasts over the map."""
        check_pooled_norm(self, strip[:, 0].numel(), f"means along {axis.upper()}", "batch or map")
        convolved = convolve_strip(strip, getattr(self, f"conv_{axis}").weight)
        normed: Tensor = getattr(self, f"bn_{axis}")(spread(convolved, place, self.ndim))
        return normed
