"""Gated Channel Transformation (GCT): channels compete or cooperate through their norms.

Yang, Zhu, Wu, Yang: Gated Channel Transformation for Visual Recognition, CVPR 2020. (Not the
Gaussian Context Transformer of Ruan et al., CVPR 2021, which is also called GCT.)

    s_c = alpha_c ||x_c||           with ||x_c||^2 = sum of x_c^2 over positions + eps
    n_c = s_c / ||s||               with ||s||^2 = mean over channels of s_c^2 + eps
    y   = x * (1 + tanh(gamma_c n_c + beta_c))

That is the authors' code. The paper (recalled, not verified) writes n_c = sqrt(C) s_c / ||s|| with
||s||^2 = sum over channels of s_c^2 + eps, which weighs eps less by C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_choice, check_number
from convattn.core.errors import ArgumentError

__all__ = ["GCT"]


class GCT(GateBlock):
    """Gated Channel Transformation.

    Args:
        channels: C.
        norm: "l2" as above, or "l1": ||x_c|| is the sum of |x_c| without eps, ||s|| the mean of
            |s_c| plus eps.
        eps: positive.
        variant: "authors" or "paper", which differ in where eps is added; "l1" is in the code only.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, 1, 1), between 0 and 2.

    Cost:
        3C parameters, no MACs.
    """

    info = Info(
        title="Gated Channel Transformation",
        summary="Gates channels by their norms relative to the norms of all channels.",
        paper="Gated Channel Transformation for Visual Recognition, CVPR 2020",
        arxiv="1909.11519",
        year=2020,
        repository="z-x-yang/GCT",
        licence="no licence file",
        positions=("before_conv",),
        aliases=("gated_channel_transformation",),
        deviations=(
            "Another block is called GCT too: the Gaussian Context Transformer (CVPR 2021).",
            "gamma and beta start at zero: the block starts as the identity, but alpha has no "
            "gradient until gamma has moved.",
            "The authors' mode l1 leaves |.| out behind a ReLU, where it changes nothing.",
        ),
    )

    def __init__(
        self,
        channels: int,
        *,
        norm: str = "l2",
        eps: float = 1e-5,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("GCT", "norm", norm, ("l2", "l1"))
        check_choice("GCT", "variant", variant, ("authors", "paper"))
        if norm == "l1" and variant == "paper":
            raise ArgumentError("GCT: norm='l1' is in the authors' code only, not in the paper")
        check_number("GCT", "eps", eps)
        self.norm, self.eps, self.variant = norm, eps, variant
        shape = (1, channels, *(1,) * ndim)
        self.alpha = nn.Parameter(torch.ones(shape))
        self.gamma = nn.Parameter(torch.zeros(shape))
        self.beta = nn.Parameter(torch.zeros(shape))

    def zero_layers(self) -> list[nn.Parameter]:
        """Zeroed for a start as the identity."""
        # the gate is 1 + tanh of these
        return [self.gamma, self.beta]

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1)."""
        # sums of squares overflow half precision
        z = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = tuple(range(2, x.dim()))
        if self.norm == "l1":
            s = z.abs().sum(axes, keepdim=True) * self.alpha
            size = s.abs().mean(1, keepdim=True) + self.eps
        else:
            s = (z.square().sum(axes, keepdim=True) + self.eps).sqrt() * self.alpha
            eps = self.eps / x.shape[1] if self.variant == "paper" else self.eps
            size = (s.square().mean(1, keepdim=True) + eps).sqrt()
        return (1 + torch.tanh(self.gamma * s / size + self.beta),)
