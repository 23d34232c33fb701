"""Global-and-Local Attention (GALA): a saliency map and a channel vector, summed and multiplied.

Linsley, Shiebler, Eberhardt, Serre: Learning What and Where to Attend, ICLR 2019.

    L = V2 relu(V1_5x5 relu(V0 x))                (1, H, W)   C -> m -> m -> 1
    G = W1 relu(W0 mean of x over H, W)           (C, 1, 1)   C -> m -> C
    A = alpha (L + G) + beta (L * G)              (C, H, W)   alpha, beta: one number per channel
    y = x * sigmoid(A)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, conv_nd
from convattn.core.checks import check_choice
from convattn.ops import global_mean

__all__ = ["GALA"]


class GALA(GateBlock):
    """Global-and-Local Attention.

    Args:
        channels: C, at least `reduction`.
        reduction: hidden channels of both branches are m = C // reduction.
        variant: "authors" as in their code, which also rectifies G; "linear" does not; "paper"
            has tanh in place of the sigmoid and G not rectified (recalled, not verified).
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W).

    Cost:
        3Cm + 25m^2 + 4m + 3C + 1 parameters, HW(Cm + 25m^2 + m) + 2Cm MACs.
    """

    info = Info(
        title="Global-and-Local Attention",
        summary="Gates every value by a local saliency map and a channel vector combined.",
        paper="Learning What and Where to Attend, ICLR 2019",
        arxiv="1805.08819",
        year=2019,
        repository="serre-lab/gala_tpu",
        licence="no licence file",
        positions=("before_add", "before_block"),
        aliases=("global_and_local_attention",),
        deviations=(
            "The authors' code is TensorFlow; its helper for linear layers rectifies by default, "
            "so the global branch's output is rectified too. variant='linear' leaves that out.",
            "Their code has a sigmoid where the paper, as recalled and not verified, has tanh.",
            "Their option of a batch norm on the local map is not here.",
            "alpha and beta start from N(0, 1), their code's variance scaling for that shape.",
        ),
        min_channels=4,
    )
    no_identity = "The gate of variant='paper' is a tanh, which is 1 at no finite logit."

    def __init__(
        self, channels: int, *, reduction: int = 4, variant: str = "authors", ndim: int = 2
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("GALA", "variant", variant, ("authors", "linear", "paper"))
        self.variant = variant
        m = self._hidden(reduction)
        conv = conv_nd(ndim)
        self.alpha = nn.Parameter(torch.randn(1, channels, *(1,) * ndim))
        self.beta = nn.Parameter(torch.randn(1, channels, *(1,) * ndim))
        self.local0 = conv(channels, m, 1)
        self.local1 = conv(m, m, 5, padding=2)
        self.local2 = conv(m, 1, 1)
        self.fc0 = nn.Linear(channels, m)
        self.fc1 = nn.Linear(m, channels)

    def can_start_as_identity(self) -> bool:
        """See `no_identity`."""
        return self.variant != "paper"

    def logit_layers(self) -> list[nn.Parameter]:
        """Zeroed for a start as the identity."""
        return [self.alpha, self.beta]

    def gate(self, logits: Tensor) -> Tensor:
        """The logistic function, or tanh for the paper's variant."""
        return torch.tanh(logits) if self.variant == "paper" else super().gate(logits)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        local = self.local2(F.relu(self.local1(F.relu(self.local0(x)))))
        vector = self.fc1(F.relu(self.fc0(global_mean(x))))
        if self.variant == "authors":
            vector = F.relu(vector)
        vector = self._over_map(vector)
        return (self.gate(self.alpha * (local + vector) + self.beta * (local * vector)),)
