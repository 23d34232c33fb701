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

from convattn.blocks._base import ContextBlock, Info
from convattn.core.checks import check_feature_map, check_positive

__all__ = ["CCA"]


class CCA(ContextBlock):
    """Criss-Cross Attention.

    Args:
        channels: C, at least `reduction`.
        reduction: q and k have c = C // reduction channels.
        passes: R.

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

    def __init__(self, channels: int, *, reduction: int = 8, passes: int = 2) -> None:
        super().__init__(channels)
        check_positive("CCA", "passes", passes)
        hidden = self._hidden(reduction)
        self.passes = passes
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, channels, 1)

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
        column = torch.einsum("ncyx,ncix->nyxi", q, k)  # (N, H, W, H)
        row = torch.einsum("ncyx,ncyj->nyxj", q, k)  # (N, H, W, W)
        rows = torch.arange(x.shape[2], device=x.device)
        itself = (rows[:, None] == rows)[:, None]  # (H, 1, H); counted once, in the row
        logits = torch.cat((column.masked_fill(itself, -torch.inf), row), 3)
        weights = logits.softmax(3).to(v.dtype)
        to_column, to_row = weights.split((x.shape[2], x.shape[3]), 3)
        gathered = torch.einsum("nyxi,ncix->ncyx", to_column, v)
        gathered = gathered + torch.einsum("nyxj,ncyj->ncyx", to_row, v)
        return (self.gamma * gathered).to(x.dtype)
