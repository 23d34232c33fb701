"""Coordinate Attention (CA): one gate per row and one per column.

Hou, Zhou, Feng: Coordinate Attention for Efficient Mobile Network Design, CVPR 2021.

    z^h = mean of x over W    z^w = mean of x over H                        (eq. 4, 5)
    f   = delta(BN(F1 [z^h, z^w]))       F1: C -> m, shared by both         (eq. 6)
    g^h = sigmoid(F_h f^h)    g^w = sigmoid(F_w f^w)                        (eq. 7, 8)
    y   = x * g^h * g^w                                                     (eq. 9)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_positive
from convattn.ops import coordinate_attention, mix_channels, strip_means

__all__ = ["CA"]

_ACTIVATIONS = {"hswish": F.hardswish, "relu": F.relu}


class CA(GateBlock):
    """Coordinate Attention.

    Args:
        channels: C.
        reduction: hidden channels are m = max(`min_hidden`, C // reduction); 32 by default.
        min_hidden: lower bound of m.
        bias: biases in the convolutions; they have them by default.
        act: delta, "hswish" or "relu".
        norm: BN.
        axes: which axes have gates: "hw" for the block; "h" keeps only the gate per row (the
            paper's X Attention, which averages along X), "w" only the gate per column (its Y
            Attention). None takes all: "l", "hw" or "dhw".
        variant: "authors", or "timm": reduction 24 and no biases by default, m rounded to a
            multiple of 8.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gates (N, C, 1, W) and (N, C, H, 1).

    Cost:
        3Cm + 3m + 2C parameters, 2Cm(H+W) MACs; one axis: 2Cm + 3m + C, 2CmH or 2CmW. Without
        biases m + 2C (one axis m + C) parameters less, without norm 2m.
    """

    info = Info(
        title="Coordinate Attention",
        summary="Pools along each axis, encodes both strips together, gates rows and columns.",
        paper="Coordinate Attention for Efficient Mobile Network Design, CVPR 2021",
        arxiv="2103.02907",
        year=2021,
        repository="houqb/CoordAttention",
        licence="MIT",
        positions=("after_depthwise",),
        aliases=("coord", "coordatt", "coord_attn", "coordinate_attention"),
        deviations=(
            "The activation is h-swish, t * relu6(t + 3) / 6; the authors' README calls it SiLU.",
            "coordatt.py names the second convolutions conv_h, conv_w; mbv2_ca.py conv2, conv3.",
            "Trained copies with ReLU and without biases exist (FeatherFace): act, bias.",
            "timm has no biases and other widths from 384 channels on; its weights fit variant "
            "'timm' only. Its SimpleCoordAttn ('scoord' there) is another block, here `simple_ca`.",
            "Wrong in the CA_Block of a widely copied blog post: it defines a batch norm that it "
            "never calls, and fixes H and W. What it computes is reduction=16, min_hidden=1, "
            "bias=False, act='relu', norm=False here, at any size.",
            "The single-axis recipe is not in the authors' code; it is the block's own branch.",
        ),
    )

    conv_h: nn.Module
    conv_w: nn.Module

    def __init__(
        self,
        channels: int,
        *,
        reduction: int | None = None,
        min_hidden: int = 8,
        bias: bool | None = None,
        act: str = "hswish",
        norm: bool = True,
        axes: str | None = None,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_positive("CA", "min_hidden", min_hidden)
        self._places = check_axes("CA", axes, ndim)
        self.axes = "".join(self._places)
        check_choice("CA", "act", act, tuple(_ACTIVATIONS))
        check_choice("CA", "variant", variant, ("authors", "timm"))
        timm = variant == "timm"
        if reduction is None:
            reduction = 24 if timm else 32
        bias = not timm if bias is None else bias
        hidden = self._hidden(reduction, min_hidden)
        if timm:
            hidden = max(min_hidden, rounded_width(channels / reduction, 8))
        self.act = act
        conv = conv_nd(ndim)
        self.conv1 = conv(channels, hidden, 1, bias=bias)
        self.norm = norm
        if norm:
            self.bn1 = batch_norm_nd(ndim)(hidden)
        for axis in self.axes:
            self.add_module(f"conv_{axis}", conv(hidden, channels, 1, bias=bias))

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [getattr(self, f"conv_{axis}") for axis in self.axes]

    def _whole(self, x: Tensor) -> Tensor | None:
        if self.axes != "hw":
            return None
        return coordinate_attention(
            x, self.conv1, self.bn1 if self.norm else None, self.conv_h, self.conv_w,
            relu=self.act == "relu", scale=self.gate_scale,
        )  # fmt: skip

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate per axis, the last axis first, as the authors multiply."""
        strips = strip_means(x)
        used = [strips[place] for place in self._places.values()]  # (N, C, H), (N, C, W)
        encoded = self._encode(torch.cat(used, 2)).split([s.shape[2] for s in used], 2)
        gates = []
        for (axis, place), strip in zip(self._places.items(), encoded, strict=True):
            conv = getattr(self, f"conv_{axis}")
            gate = self.gate(mix_channels(strip, conv.weight, conv.bias))  # (N, C, L)
            gates.append(spread(gate, place, self.ndim))
        return tuple(reversed(gates))

    def _encode(self, strips: Tensor) -> Tensor:
        """(N, C, L) -> (N, m, L)."""
        mixed = mix_channels(strips, self.conv1.weight, self.conv1.bias)
        if self.norm:
            mixed = self.bn1(mixed[(..., *(None,) * (self.ndim - 1))]).flatten(2)
        return _ACTIVATIONS[self.act](mixed)
