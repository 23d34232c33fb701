"""Pyramid Squeeze Attention (PSA): four kernels side by side, their channels weighed by softmax.

Zhang et al.: EPSANet, an Efficient Pyramid Squeeze Attention Block, ACCV 2022.

    f_i = conv_i(x)                     kernels 3, 5, 7, 9 in 1, 4, 8, 16 groups; C -> out / 4
    z_i = sigmoid(W2 relu(W1 mean of f_i))                one network for all four
    y   = [f_i * softmax_i(z_i)]                          softmax over the four, per channel

Not to be confused with Polarized Self-Attention, also called PSA.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import ConvBlock, Info, conv_nd
from convattn.blocks._pooled import check_size
from convattn.core.checks import check_choice, check_odd, check_positive
from convattn.core.errors import ArgumentError
from convattn.ops import global_mean

__all__ = ["PSA"]


class PSA(ConvBlock):
    """Pyramid Squeeze Attention.

    Args:
        channels: C, a multiple of every entry of `groups`.
        out_channels: a multiple of 4 and of 4 times every entry of `groups`; None for C.
        stride: of the four convolutions.
        kernel_sizes: of the four, odd.
        groups: of the four.
        reduction: the hidden channels of z are (out / 4) // reduction.
        variant: "authors" puts the last kernel's channels first, as their loop does; "paper" the
            first kernel's (recalled, not verified).
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)), any H, W.

    Cost:
        sum of k^2 C m / g, plus 2mh + h + m parameters, with m = out / 4, h = m // reduction; as
        many MACs per output position as the sum, plus 8mh. In n axes k^n in place of k^2.
    """

    info = Info(
        title="Pyramid Squeeze Attention",
        summary="Convolves with four kernel sizes and weighs each channel's four by softmax.",
        paper="EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural "
        "Network, ACCV 2022",
        arxiv="2105.14447",
        year=2022,
        repository="murufeng/EPSANet",
        licence="MIT",
        positions=("conv3x3",),
        aliases=("psa_module", "epsa", "pyramid_squeeze_attention"),
        deviations=(
            "The authors' loop concatenates in the order of kernels 9, 7, 5, 3; that the paper "
            "has 3, 5, 7, 9 (variant='paper') is recalled, not verified.",
            "The softmax is taken of values that went through a sigmoid already.",
            "Wrong in External-Attention-pytorch: its convolutions are not registered, so that "
            "nothing of them is trained or saved, and it overwrites its input.",
        ),
        min_channels=64,
    )

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        kernel_sizes: tuple[int, ...] = (3, 5, 7, 9),
        groups: tuple[int, ...] = (1, 4, 8, 16),
        reduction: int = 16,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, out_channels, stride, ndim)
        check_choice("PSA", "variant", variant, ("authors", "paper"))
        check_positive("PSA", "reduction", reduction)
        groups = check_size("PSA", "groups", groups, 4)
        for kernel in check_size("PSA", "kernel_sizes", kernel_sizes, 4):
            check_odd("PSA", "each of kernel_sizes", kernel)
        self._check_divisible(math.lcm(*groups), reduction)
        branch = self.out_channels // 4
        self.convs = nn.ModuleList(
            conv_nd(ndim)(channels, branch, k, stride, padding=k // 2, groups=g, bias=False)
            for k, g in zip(kernel_sizes, groups, strict=True)
        )
        self.fc1 = nn.Linear(branch, branch // reduction)
        self.fc2 = nn.Linear(branch // reduction, branch)
        self.variant = variant

    def convolve(self, x: Tensor) -> Tensor:
        """The weighed branches, side by side."""
        branches = torch.stack([conv(x) for conv in self.convs], 1)  # (N, 4, m, H, W)
        hidden = F.relu(self.fc1(global_mean(branches.flatten(0, 1))))
        z = self.fc2(hidden).sigmoid().unflatten(0, (-1, 4))  # (N, 4, m)
        weights = z.softmax(1)[(..., *(None,) * self.ndim)].to(branches.dtype)
        weighed = branches * weights
        return (weighed.flip(1) if self.variant == "authors" else weighed).flatten(1, 2)

    def _check_divisible(self, common: int, reduction: int) -> None:
        if self.channels % common or self.out_channels % (4 * common):
            raise ArgumentError(
                f"PSA: channels must be a multiple of {common} and out_channels of {4 * common}, "
                f"got {self.channels} and {self.out_channels}"
            )
        if self.out_channels // 4 < reduction:
            raise ArgumentError(
                f"PSA: out_channels={self.out_channels} leaves no hidden channel; "
                f"use out_channels >= {4 * reduction}, or a smaller reduction"
            )
