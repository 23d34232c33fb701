"""Efficient Channel Attention (ECA): one gate per channel from its neighbours' means.

Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net, CVPR 2020.

    z = mean of x over H, W
    g = sigmoid(conv1d_k(z))          one kernel of k weights for all channels       (eq. 9)
    k = nearest odd to |log2(C) / gamma + b / gamma|                                 (eq. 12)
    y = x * g
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_number, check_odd
from convattn.core.errors import ArgumentError
from convattn.ops import efficient_channel_attention, global_mean

__all__ = ["ECA", "adaptive_kernel_size"]


def adaptive_kernel_size(channels: int, gamma: float = 2, b: float = 1) -> int:
    """The paper's kernel size for C channels (eq. 12, as its listing computes it).

    8 to 127 channels give 3, 128 to 2047 give 5, 2048 gives 7 with the default gamma and b.
    """
    t = int(min(abs((math.log2(channels) + b) / gamma), 2.0**31))  # of a tiny gamma infinite
    return t if t % 2 else t + 1


class ECA(GateBlock):
    """Efficient Channel Attention.

    Args:
        channels: C.
        kernel_size: k, odd; None takes the paper's rule from C, gamma and b.
        gamma: divisor of the rule.
        b: offset of the rule.
        circular: the first and the last channel are neighbours; otherwise zeros are beyond them.
        variant: "authors", or "timm": the rule never gives less than 3; or "timm_mlp", with that
            rule too: each mean first becomes m = C / 8 values, rounded to a multiple of 8, of one
            layer with ReLU for all channels, and both layers have biases.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1).

    Cost:
        k parameters, kC MACs; "timm_mlp" 2m + km + 1 parameters, (k + 1)mC MACs.
    """

    info = Info(
        title="Efficient Channel Attention",
        summary="Gates channels by a 1-D convolution across their means.",
        paper="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, "
        "CVPR 2020",
        arxiv="1910.03151",
        year=2020,
        repository="BangguWu/ECANet",
        licence="MIT",
        positions=("before_add",),
        aliases=("ecanet", "eca_layer", "efficient_channel_attention"),
        deviations=(
            "The authors' code ignores the rule for k: it takes kernel_size by hand, default 3; "
            "their released ResNet-50 has 3, 5, 5, 7 by stage.",
            "The listing in the paper (figure 3) omits the sigmoid; code and equation have it.",
            "timm never goes below kernel 3; its 'ceca' is circular, its 'ecam' has a layer in "
            "front, an experiment of its own.",
            "Wrong in External-Attention-pytorch: it has a bias.",
        ),
    )

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        gamma: float = 2,
        b: float = 1,
        circular: bool = False,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_number("ECA", "gamma", gamma)
        check_number("ECA", "b", b, "a finite number")
        check_choice("ECA", "variant", variant, ("authors", "timm", "timm_mlp"))
        ruled = kernel_size is None
        if kernel_size is None:
            kernel_size = adaptive_kernel_size(channels, gamma, b)
            kernel_size = kernel_size if variant == "authors" else max(kernel_size, 3)
        check_odd("ECA", "kernel_size", kernel_size)
        if (ruled or circular) and kernel_size // 2 > channels:
            raise ArgumentError(
                f"ECA: kernel_size must be at most {2 * channels + 1} with {channels} channels, "
                f"got {kernel_size}; give a smaller one, or a larger gamma"
            )
        self.circular = circular
        self.mlp = variant == "timm_mlp"
        padding = kernel_size // 2
        if self.mlp:
            hidden = rounded_width(channels / 8, 8, 0.9)
            self.conv = nn.Conv1d(1, hidden, 1)
            self.conv2 = nn.Conv1d(hidden, 1, kernel_size, padding=padding)
        else:
            self.conv = nn.Conv1d(1, 1, kernel_size, padding=padding, bias=False)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.conv2 if self.mlp else self.conv]

    def _whole(self, x: Tensor) -> Tensor | None:
        if self.mlp:
            return None
        return efficient_channel_attention(
            x, self.conv, circular=self.circular, scale=self.gate_scale
        )

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        means = global_mean(x)
        if not self.mlp:
            logits = self._windows(means, self.conv) @ self.conv.weight.flatten()  # (N, C, k) @ k
            if self.conv.bias is not None:  # somebody's; ours has none
                logits = logits + self.conv.bias
            return (self._over_map(self.gate(logits)),)
        assert self.conv.bias is not None
        assert self.conv2.bias is not None
        hidden = F.relu(self.conv.weight[..., 0] @ means[:, None] + self.conv.bias[:, None])
        windows = self._windows(hidden, self.conv2).transpose(1, 2).flatten(2)  # (N, C, mk)
        logits = windows @ self.conv2.weight.flatten() + self.conv2.bias
        return (self._over_map(self.gate(logits)),)

    def _windows(self, z: Tensor, conv: nn.Conv1d) -> Tensor:
        """(..., C) -> (..., C, k)."""
        k = conv.weight.shape[2]
        if self.circular:
            z = torch.cat((z[..., self.channels - k // 2 :], z, z[..., : k // 2]), -1)
        else:
            z = F.pad(z, (k // 2, k // 2))
        return z.unfold(-1, k, 1)
