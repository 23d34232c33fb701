"""Criss-Cross Attention (CCA): every position attends to its row and its column.

Huang, Wang, Huang, Huang, Wei, Liu: CCNet: Criss-Cross Attention for Semantic Segmentation,
ICCV 2019.

    l_ij = q_i . k_j          for the H + W - 1 positions j in the row and column of i
    x'_i = x_i + gamma sum_j softmax_j(l_ij) v_j

Repeated R times with the same weights (R = 2 reaches every position); no HW x HW matrix occurs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._base import ContextBlock, Info, conv_nd
from convattn.core.checks import check_feature_map, check_positive

__all__ = ["CCA"]


class CCA(ContextBlock):
    """Criss-Cross Attention.

    Args:
        channels: C, at least `reduction`.
        reduction: q and k have c = C // reduction channels.
        passes: R.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W.

    Cost:
        C^2 + 2Cc + C + 2c + 1 parameters, HW(C^2 + 2Cc + (H + W)(C + c)) MACs for each pass.
    """

    info = Info(
        title="Criss-Cross Attention",
        summary="Adds to each position a weighted sum over its row and its column, repeatedly.",
        paper="CCNet: Criss-Cross Attention for Semantic Segmentation, ICCV 2019",
        arxiv="1811.11721",
        year=2019,
        repository="speedinghzl/CCNet",
        licence="MIT",
        positions=("head",),
        aliases=("ccnet", "criss_cross", "rcca"),
        deviations=(
            "gamma starts at zero as in the authors' code: the block starts as the identity.",
            "The authors' class makes one pass and their network repeats it; theirs needs CUDA.",
            "mmcv names gamma gamma.scale.",
        ),
        min_channels=8,
    )

    def __init__(
        self, channels: int, *, reduction: int = 8, passes: int = 2, ndim: int = 2
    ) -> None:
        super().__init__(channels, ndim)
        check_positive("CCA", "passes", passes)
        hidden = self._hidden(reduction)
        self.passes = passes
        self.gamma = nn.Parameter(torch.zeros(1))
        conv = conv_nd(ndim)
        self.query = conv(channels, hidden, 1)
        self.key = conv(channels, hidden, 1)
        self.value = conv(channels, channels, 1)

    def zero_layers(self) -> list[nn.Parameter]:
        """Zeroed for a start as the identity."""
        return [self.gamma]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        check_feature_map(self, x, self.channels, self.ndim)
        for _ in range(self.passes):
            x = x + self.context(x)
        return x

    def context(self, x: Tensor) -> Tensor:
        """What one pass adds, (N, C, H, W)."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        axes = range(2, x.dim())
        logits = [_along(q, k, axis) for axis in axes]  # (N, H, W, H), (N, H, W, W)
        for axis, column in zip(axes[:-1], logits, strict=False):  # itself is in the last alone
            i = torch.arange(x.shape[axis], device=x.device)
            itself = (i[:, None] == i)[(slice(None), *(None,) * (x.dim() - 1 - axis))]
            logits[axis - 2] = column.masked_fill(itself, -torch.inf)
        weights = torch.cat(logits, -1).softmax(-1).to(v.dtype).split([*x.shape[2:]], -1)
        gathered = [_sum_along(w, v, axis) for axis, w in zip(axes, weights, strict=True)]
        return (self.gamma * sum(gathered[1:], start=gathered[0])).to(x.dtype)


def _along(q: Tensor, k: Tensor, axis: int) -> Tensor:
    """q_i . k_j for all j in line with i along an axis: (N, c, *axes) -> (N, *axes, L)."""
    logits = torch.einsum("nc...i,nc...j->n...ij", q.movedim(axis, -1), k.movedim(axis, -1))
    return logits.movedim(-2, axis - 1)


def _sum_along(weights: Tensor, v: Tensor, axis: int) -> Tensor:
    """sum_j w_ij v_j over all j in line with i: (N, *axes, L), (N, C, *axes) -> (N, C, *axes)."""
    weights = weights.movedim(axis - 1, -2)
    return torch.einsum("n...ij,nc...j->nc...i", weights, v.movedim(axis, -1)).movedim(-1, axis)
