"""Selective Kernel convolution (SK): branches of several kernel sizes, mixed per channel.

Li, Wang, Hu, Yang: Selective Kernel Networks, CVPR 2019.

    U_i = relu(BN(conv_i x))            3x3 with dilation i + 1, grouped; i = 0 .. M - 1
    s   = mean over positions of U_0 + ... + U_(M-1)               (eq. 1, 2)
    z   = relu(BN(W s))                 C -> d = max(C / r, L)     (eq. 3)
    a   = softmax over the M of A z     d -> M C                   (eq. 5)
    y   = sum_i a_i U_i                                            (eq. 6)

The equation numbers are recalled, not checked against the paper.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import ConvBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._pooled import check_pooled_norm
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError
from convattn.ops import global_mean

__all__ = ["SK"]


class SK(ConvBlock):
    """Selective Kernel convolution.

    Args:
        channels: C of the input, a multiple of `groups`.
        out_channels: C', a multiple of `groups`; None for C.
        stride: of all branches.
        branches: M; the second has the reach of a 5x5 convolution, the third of a 7x7.
        groups: of the convolutions; None takes 32, in timm's form 1.
        reduction: d = max(`min_hidden`, C' // reduction).
        min_hidden: L, lower bound of d; None takes 32, in timm's form 8.
        split: each branch sees its share of the input's channels alone, of M consecutive ones;
            None does so in timm's form.
        variant: "authors", or "timm": d = C' / reduction rounded to a multiple of 8.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C', H / stride, W / stride), rounded up; any H, W. In training the
        batch norm on the means needs N > 1.

    Cost:
        M(9CC'/groups + 2C') + (M + 1)C'd + 2d parameters, 9MCC'H'W'/groups + (M + 1)C'd MACs; with
        a split C/M in place of C, in n axes 3^n in place of 9.
    """

    info = Info(
        title="Selective Kernel convolution",
        summary="Mixes convolutions of several reaches by a softmax for each channel.",
        paper="Selective Kernel Networks, CVPR 2019",
        arxiv="1903.06586",
        year=2019,
        repository="implus/SKNet",
        licence="no licence file",
        positions=("conv3x3",),
        aliases=("sknet", "selective_kernel"),
        deviations=(
            "timm splits the input between the branches, does not group, and rounds d to a "
            "multiple of 8: variant 'timm'.",
            "External-Attention-pytorch has kernels 1, 3, 5, 7, biases, and z as a bare linear "
            "layer.",
        ),
        min_channels=32,
    )

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        *,
        branches: int = 2,
        groups: int | None = None,
        reduction: int = 16,
        min_hidden: int | None = None,
        split: bool | None = None,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, out_channels, stride, ndim)
        check_choice("SK", "variant", variant, ("authors", "timm"))
        timm = variant == "timm"
        groups = (1 if timm else 32) if groups is None else groups
        min_hidden = (8 if timm else 32) if min_hidden is None else min_hidden
        self.split = timm if split is None else split
        for name, value in (
            ("branches", branches),
            ("groups", groups),
            ("reduction", reduction),
            ("min_hidden", min_hidden),
        ):
            check_positive("SK", name, value)
        out = self.out_channels
        least = branches * groups if self.split else groups
        if channels % least or out % groups:
            raise ArgumentError(
                f"SK: channels={channels} must be a multiple of {least} and out_channels={out} of "
                f"groups={groups}. Use at least {least} channels, or fewer groups."
            )
        share = channels // branches if self.split else channels
        width = rounded_width(out / reduction, 8, 0.9) if timm else out // reduction
        hidden = max(min_hidden, width)
        self.branches = nn.ModuleList(
            nn.Sequential(
                conv_nd(ndim)(share, out, 3, stride, i, i, groups=groups, bias=False),
                batch_norm_nd(ndim)(out),
            )
            for i in range(1, branches + 1)
        )
        self.fc1 = nn.Linear(out, hidden, bias=False)
        self.bn = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, branches * out, bias=False)

    def convolve(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        check_pooled_norm(self, x.shape[0], "the map's means")
        seen = x.chunk(len(self.branches), 1) if self.split else [x] * len(self.branches)
        maps = [F.relu(branch(part)) for branch, part in zip(self.branches, seen, strict=True)]
        pooled = global_mean(sum(maps[1:], start=maps[0]))
        logits = self.fc2(F.relu(self.bn(self.fc1(pooled))))
        weights = logits.unflatten(1, (len(maps), -1)).softmax(1).to(maps[0].dtype)  # (N, M, C')
        mixed = [u * self._over_map(a) for u, a in zip(maps, weights.unbind(1), strict=True)]
        return sum(mixed[1:], start=mixed[0]).to(x.dtype)
