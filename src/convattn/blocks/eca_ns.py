"""ECA without weight sharing (ECA-NS): each channel has its own kernel over its neighbours' means.

Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net, CVPR 2020 (the comparison with ECA).

    z   = mean of x over H, W
    g_c = sigmoid(sum_j w_c,j z_(c + j - (k-1)/2))          k weights for each channel
    y   = x * g
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_odd
from convattn.ops import global_mean

__all__ = ["ECANS"]


class ECANS(GateBlock):
    """Efficient Channel Attention without weight sharing.

    Args:
        channels: C.
        kernel_size: k, odd.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1).

    Cost:
        kC parameters, kC MACs.
    """

    info = Info(
        title="Efficient Channel Attention without weight sharing",
        summary="ECA with one kernel per channel instead of one for all.",
        paper="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, "
        "CVPR 2020",
        arxiv="1910.03151",
        year=2020,
        repository="BangguWu/ECANet",
        licence="MIT",
        positions=("before_add",),
        aliases=("ecans", "eca_no_sharing"),
        deviations=(
            "The authors unfold the means and convolve in C groups; here the same sum is a "
            "product with the kernels (C, 1, k).",
        ),
    )

    def __init__(self, channels: int, *, kernel_size: int = 3, ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        check_odd("ECANS", "kernel_size", kernel_size)
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels, bias=False)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [self.conv]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        weight = self.conv.weight[:, 0]  # (C, k)
        k = weight.shape[1]
        padded = F.pad(global_mean(x), (k // 2, k // 2))
        logits = torch.einsum("nck,ck->nc", padded.unfold(1, k, 1), weight)
        return (self._over_map(self.gate(logits)),)
