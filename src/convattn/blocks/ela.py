"""Efficient Local Attention (ELA): one gate per row and one per column, without a bottleneck.

Xu, Wan: ELA, Efficient Local Attention for Deep CNNs, arXiv 2024.

    z^h = mean of x over W                 z^w = mean of x over H
    g^h = sigmoid(GN(conv1d_k(z^h)))       g^w = sigmoid(GN(conv1d_k(z^w)))
    y   = x * g^h * g^w
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._axes import check_axes, spread
from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_choice, check_odd, check_positive
from convattn.core.errors import ArgumentError
from convattn.ops import local_attention, strip_means

__all__ = ["ELA"]

# kernel size, channels per group of the convolution, groups of the norm
_SCALES = {"tiny": (5, 1, 32), "base": (7, 1, 16), "small": (5, 8, 16), "large": (7, 8, 16)}


class ELA(GateBlock):
    """Efficient Local Attention.

    Args:
        channels: C, a multiple of the norm's groups.
        scale: the paper's "tiny" (k 5, depthwise, 32 norm groups), "base" (7, depthwise, 16),
            "small" (5, C // 8 groups, 16) or "large" (7, C // 8 groups, 16).
        kernel_size: k, odd; None takes the scale's.
        norm_groups: of the group norm; None takes the scale's, with variant "timm" 1.
        axes: which axes have gates; None takes all: "l", "hw" or "dhw".
        variant: "authors" shares one convolution and one norm between the axes, as the code in
            circulation; "paper" has one per axis; "timm" too, with a SiLU before the sigmoid.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gates (N, C, H, 1) and (N, C, 1, W).

    Cost:
        kCp + 2C parameters with p channels per group (1 or 8), per axis unless shared;
        kpC(H+W) MACs.
    """

    info = Info(
        title="Efficient Local Attention",
        summary="Gates rows and columns by a 1-D convolution along each strip of means.",
        paper="ELA: Efficient Local Attention for Deep Convolutional Neural Networks, 2024",
        arxiv="2403.01123",
        year=2024,
        positions=("before_add",),
        aliases=("efficient_local_attention",),
        deviations=(
            "No authors' code was found; 'authors' is the class in circulation.",
            "That the paper has a convolution per axis (F_h, F_w) is recalled, not verified.",
            "Group norm of a single value gives its bias here; torch's own refuses it at batch 1.",
            "timm: one norm group, and SiLU between norm and sigmoid.",
        ),
        min_channels=16,
    )

    def __init__(
        self,
        channels: int,
        *,
        scale: str = "base",
        kernel_size: int | None = None,
        norm_groups: int | None = None,
        axes: str | None = None,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("ELA", "scale", scale, tuple(_SCALES))
        check_choice("ELA", "variant", variant, ("authors", "paper", "timm"))
        own_kernel, per_group, own_norm = _SCALES[scale]
        kernel_size = own_kernel if kernel_size is None else kernel_size
        check_odd("ELA", "kernel_size", kernel_size)
        if norm_groups is None:
            norm_groups = 1 if variant == "timm" else own_norm
        check_positive("ELA", "norm_groups", norm_groups)
        conv_groups = max(channels // per_group, 1)
        for divisor in (norm_groups, conv_groups):
            if channels % divisor:
                raise ArgumentError(
                    f"ELA: channels must be a multiple of the {divisor} groups of its layers (scale"
                    f"={scale!r}, norm_groups={norm_groups}), got {channels}; "
                    f"use {max(channels // divisor, 1) * divisor}"
                )
        self._places = check_axes("ELA", axes, ndim)
        self.variant = variant
        count = 1 if variant == "authors" else len(self._places)
        pad = kernel_size // 2
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=pad, groups=conv_groups, bias=False)
            for _ in range(count)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(norm_groups, channels) for _ in range(count))

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return list(self.norms)

    def _whole(self, x: Tensor) -> Tensor | None:
        if tuple(self._places) != ("h", "w"):
            return None
        layers = zip(self.convs, self.norms, strict=True)
        axes = [*layers] * (2 // len(self.convs))
        return local_attention(x, axes, silu=self.variant == "timm", scale=self.gate_scale)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate per axis, the first axis first."""
        strips = strip_means(x)
        gates = []
        for k, place in enumerate(self._places.values()):
            k = min(k, len(self.convs) - 1)  # one for all axes, or one for each
            logits = _group_norm(self.norms[k], self.convs[k](strips[place]))  # (N, C, L)
            gate = self.gate(F.silu(logits) if self.variant == "timm" else logits)
            gates.append(spread(gate, place, self.ndim))
        return tuple(gates)


def _group_norm(norm: nn.Module, z: Tensor) -> Tensor:
    """The norm without its check that there is more than one value: that one gives the bias."""
    assert isinstance(norm, nn.GroupNorm)
    return torch.group_norm(z, norm.num_groups, norm.weight, norm.bias, norm.eps)
