"""SimAM: one gate per channel and position, without parameters.

Yang, Zhang, Li, Xie: SimAM, a Simple, Parameter-Free Attention Module for CNNs, ICML 2021.

    d = (x - mean of x)^2                      over H, W, per channel
    v = sum of d / (HW - 1)
    g = sigmoid(d / (4 (v + lambda)) + 1/2)    the inverse of the minimal energy of a neuron
    y = x * g
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convattn.blocks._base import GateBlock, Info
from convattn.core.checks import check_number

__all__ = ["SimAM"]


class SimAM(GateBlock):
    """A parameter-free attention module.

    Args:
        channels: C, or None for any; there is no parameter.
        e_lambda: lambda, positive; the authors' ImageNet runs use 0.1.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gate (N, C, H, W), at least sigmoid(1/2). On a map
        with one position, where the published formula is 0 / 0, v is 0 and the gate sigmoid(1/2).

    Cost:
        no parameters, no MACs.
    """

    info = Info(
        title="SimAM",
        summary="Gates every value by how far it is from its channel's mean; no parameters.",
        paper="SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks, "
        "ICML 2021",
        year=2021,
        repository="ZjjConan/SimAM",
        licence="no licence file",
        positions=("after_depthwise", "before_norm"),
        aliases=("simam_module",),
        deviations=(
            "The authors divide by HW - 1, so a map with one position gives NaN; finite here.",
            "Their class has lambda 1e-4, their ImageNet commands 0.1.",
            "They put it before the batch norm that follows the 3x3 convolution.",
        ),
    )
    no_identity = "It has no parameter: its gate is a fixed function of the map."

    any_channels = True

    def __init__(self, channels: int | None, *, e_lambda: float = 1e-4, ndim: int = 2) -> None:
        super().__init__(channels, ndim)
        check_number("SimAM", "e_lambda", e_lambda)
        self.e_lambda = e_lambda

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        axes = tuple(range(2, x.dim()))
        # in float16 the square of 300 is infinite
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        squares = (precise - precise.mean(axes, keepdim=True)).square()
        variance = squares.sum(axes, keepdim=True) / max(math.prod(x.shape[2:]) - 1, 1)
        return (self.gate(squares / (4 * (variance + self.e_lambda)) + 0.5),)
