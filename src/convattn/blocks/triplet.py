"""Triplet Attention: a gate for each pair of the axes C, H, W; "TA" of the CA paper.

Misra, Nalamada, Arasanipalai, Hou: Rotate to Attend, WACV 2021.

    zpool_a(x) = [max over a, mean over a]
    g_cw = sigmoid(BN(conv_7x7(zpool_H x)))   (C, W)
    g_hc = sigmoid(BN(conv_7x7(zpool_W x)))   (H, C)
    g_hw = sigmoid(BN(conv_7x7(zpool_C x)))   (H, W)
    y = (x * g_cw + x * g_hc + x * g_hw) / 3                                       (eq. 4)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.blocks._axes import axis_names, check_axes
from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.core.checks import check_norm_input, check_odd
from convattn.ops import triplet

__all__ = ["Triplet"]


class Triplet(GateBlock):
    """Triplet Attention.

    Args:
        channels: C, or None for any; no parameter depends on it.
        kernel_size: of the three convolutions, odd.
        spatial: False leaves the (H, W) branch out and averages the other two.
        axes: which axes have a branch that pools them; None takes all: "l", "hw" or "dhw".
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; one gate (N, C, H, W), the mean of the branches'.

    Cost:
        3(2k^2 + 2) parameters, 2k^2 (HW + CW + CH) MACs. In n axes n + 1 branches of 2k^n + 2
        parameters.
    """

    info = Info(
        title="Triplet Attention",
        summary="Gates each pair of the axes channel, height, width, and averages the three.",
        paper="Rotate to Attend: Convolutional Triplet Attention Module, WACV 2021",
        arxiv="2010.03045",
        year=2021,
        repository="landskape-ai/triplet-attention",
        licence="MIT",
        positions=("before_add",),
        aliases=("ta", "triplet_attention"),
        deviations=(
            "The authors rotate the tensor for each branch; the gates are computed in place here.",
            "The authors hard-code kernel 7 and have two incompatible sets of key names.",
            "In three axes each branch pools one of C, D, H, W and gates the other three; one axis "
            "alike. That is ours, the paper has images.",
        ),
    )

    any_channels = True
    cw: _Branch
    hc: _Branch
    hw: _Branch

    def __init__(
        self,
        channels: int | None,
        *,
        kernel_size: int = 7,
        spatial: bool = True,
        axes: str | None = None,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_odd("Triplet", "kernel_size", kernel_size)
        self.spatial = spatial
        self._places = check_axes("Triplet", axes, ndim)
        for name in self._branches():
            self.add_module(name, _Branch(kernel_size, ndim))

    @property
    def kernel_size(self) -> int:
        """Of the convolutions."""
        branch = next(self.children())
        assert isinstance(branch, _Branch)
        return branch.conv.kernel_size[0]

    def _branches(self) -> dict[str, int]:
        """The branches, each named for the axes that it gates, and the axis that it pools."""
        names = axis_names(self.ndim)
        found = {names.replace(axis, "c"): 2 + place for axis, place in self._places.items()}
        return {**found, names: 1} if self.spatial else found

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        return [branch.bn for branch in self.children() if isinstance(branch, _Branch)]

    def _whole(self, x: Tensor) -> Tensor | None:
        if self.ndim != 2 or tuple(self._places) != ("h", "w") or not self.spatial:
            return None
        branches = [(branch.conv, branch.bn) for branch in (self.cw, self.hc, self.hw)]
        return triplet(x, branches, scale=self.gate_scale)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, H, W)."""
        gates = []
        for name, axis in self._branches().items():
            turned = x.transpose(1, axis)  # C stands where the pooled axis stood
            pooled = torch.stack((turned.max(1).values, turned.mean(1)), 1)
            gates.append(self.gate(getattr(self, name)(pooled)).transpose(1, axis))
        return (sum(gates[1:], start=gates[0]) / len(gates),)


class _Branch(nn.Module):
    """(N, 2, A, B) -> gate logits (N, 1, A, B)."""

    def __init__(self, kernel_size: int, ndim: int) -> None:
        super().__init__()
        self.conv = conv_nd(ndim)(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = batch_norm_nd(ndim)(1, momentum=0.01)

    def forward(self, pooled: Tensor) -> Tensor:
        check_norm_input(self, pooled[:, 0].numel())
        logits: Tensor = self.bn(self.conv(pooled))
        return logits
