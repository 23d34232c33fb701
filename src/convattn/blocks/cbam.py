"""Convolutional Block Attention Module (CBAM): a channel gate, then a gate per position.

Woo, Park, Lee, Kweon: CBAM, ECCV 2018.

    g_c = sigmoid(MLP(avgpool x) + MLP(maxpool x))       x' = x * g_c               (eq. 2)
    g_s = sigmoid(BN(conv_7x7 [max_C x', mean_C x']))    y  = x' * g_s              (eq. 3)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._rounding import rounded_width
from convattn.core.checks import check_choice, check_norm_input, check_odd, check_positive
from convattn.core.errors import ArgumentError
from convattn.core.names import suggest
from convattn.ops import cbam, global_mean

__all__ = ["CBAM"]


# The gradient of a maximum is laid out as what was reduced. On a channels_last map a view with the
# channels last is reduced, or the gradient would have to be laid out anew before the convolutions.
def _global_max(x: Tensor) -> Tensor:
    """(N, C, *axes) -> (N, C); as in max_pool2d the gradient goes to one entry."""
    if x.is_contiguous():
        return x.flatten(2).max(2).values
    return x.movedim(1, -1).flatten(1, -2).max(1).values


def _channel_max(x: Tensor) -> Tensor:
    """(N, C, *axes) -> (N, 1, *axes)."""
    if x.is_contiguous():
        return x.max(1, keepdim=True).values
    return x.movedim(1, -1).max(-1).values.unsqueeze(1)


_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": global_mean,
    "max": _global_max,
    "lp": lambda x: torch.linalg.vector_norm(x.flatten(2), 2, 2),
    "lse": lambda x: x.flatten(2).logsumexp(2),
}


class CBAM(GateBlock):
    """Convolutional Block Attention Module.

    Args:
        channels: C, at least `reduction`.
        reduction: hidden channels are m = C // reduction.
        kernel_size: of the spatial convolution, odd.
        pools: which poolings the channel gate adds up: "avg", "max", "lp" (2-norm), "lse"
            (log-sum-exp).
        spatial: False leaves the spatial gate out.
        variant: "authors"; "paper" has no batch norm and pools in the order mean, max (recalled,
            not verified); "timm" in that order too, without biases in the MLP, norm momentum 0.1,
            m rounded to nearest; "timm_light" likewise, and each gate sees the mean of its
            poolings, so that the spatial convolution has one input.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W; gates (N, C, 1, 1) and (N, 1, H, W). In training
        the spatial batch norm needs N * H * W > 1.

    Cost:
        2Cm + m + C + 2k^2 + 2 parameters, 2Cm per pooling + 2k^2 HW MACs; "timm" has m + C
        parameters less, "timm_light" k^2 less still, 2Cm + k^2 HW MACs. In n axes k^n in place of
        k^2.
    """

    info = Info(
        title="Convolutional Block Attention Module",
        summary="Gates channels by pooled statistics, then positions by a 7x7 convolution.",
        paper="CBAM: Convolutional Block Attention Module, ECCV 2018",
        arxiv="1807.06521",
        year=2018,
        repository="Jongchan/attention-module",
        licence="MIT",
        positions=("before_add", "after_depthwise"),
        deviations=(
            "The spatial gate has a batch norm (momentum 0.01) that the paper does not mention.",
            "variant='paper' follows the paper as recalled, not verified: no batch norm, the order "
            "mean, max, and no bias in the convolution.",
            "timm pools in the order mean, max and has no biases in the MLP; its 'lcbam' (variant "
            "'timm_light') is an experiment of its own.",
            "Wrong in External-Attention-pytorch: kernel 49 by default, no norm, and the input is "
            "added back.",
        ),
        min_channels=16,
    )

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        kernel_size: int = 7,
        pools: tuple[str, ...] = ("avg", "max"),
        spatial: bool = True,
        variant: str = "authors",
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("CBAM", "variant", variant, ("authors", "paper", "timm", "timm_light"))
        check_positive("CBAM", "reduction", reduction)
        timm, self.light = "timm" in variant, variant == "timm_light"
        hidden = rounded_width(channels / reduction, 1) if timm else self._hidden(reduction)
        check_odd("CBAM", "kernel_size", kernel_size)
        if not isinstance(pools, (tuple, list)) or not pools:
            raise ArgumentError(
                f"CBAM: pools must be a tuple of names, such as ('avg',), got {pools!r}"
            )
        for pool in pools:
            if not isinstance(pool, str) or pool not in _POOLS:
                raise ArgumentError(f"CBAM has no pooling {pool!r}; {suggest(str(pool), _POOLS)}")
        self.pools = tuple(pools)
        self.fc1 = nn.Linear(channels, hidden, bias=not timm)
        self.fc2 = nn.Linear(hidden, channels, bias=not timm)
        self.spatial = spatial
        self.variant = variant
        if spatial:
            self.conv = conv_nd(ndim)(
                2 - self.light, 1, kernel_size, padding=kernel_size // 2, bias=False
            )
            if variant != "paper":
                self.bn = batch_norm_nd(ndim)(1, momentum=0.1 if timm else 0.01)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        if not self.spatial:
            return [self.fc2]
        return [self.fc2, self.conv if self.variant == "paper" else self.bn]

    def _whole(self, x: Tensor) -> Tensor | None:
        if self.pools != ("avg", "max") or not self.spatial or self.light:
            return None
        norm = None if self.variant == "paper" else self.bn
        return cbam(
            x, self.fc1, self.fc2, self.conv, norm,
            maximum_first=self.variant == "authors", scale=self.gate_scale,
        )  # fmt: skip

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """Gates (N, C, 1, 1) and (N, 1, H, W)."""
        pooled = [_POOLS[name](x) for name in self.pools]
        if self.light:
            pooled = [torch.stack(pooled).mean(0)]
        logits = torch.stack([self.fc2(F.relu(self.fc1(z))) for z in pooled]).sum(0)
        channel = self._over_map(self.gate(logits))
        return (channel, self._spatial_gate(x * channel)) if self.spatial else (channel,)

    def _spatial_gate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        mean, maximum = x.mean(1, keepdim=True), _channel_max(x)
        if self.light:
            pooled = (mean + maximum) / 2
        else:
            pooled = torch.cat((maximum, mean) if self.variant == "authors" else (mean, maximum), 1)
        if self.variant == "paper":
            return self.gate(self.conv(pooled))
        check_norm_input(self, mean.numel())
        return self.gate(self.bn(self.conv(pooled)))
