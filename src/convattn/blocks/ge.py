"""Gather-Excite (GE): each value gated by what its channel holds around it.

Hu, Shen, Albanie, Sun, Vedaldi: Gather-Excite: Exploiting Feature Context in CNNs, NeurIPS 2018.

    g = gather(x)                      per channel, over the whole map or over extents of e
    y = x * sigmoid(up(excite(g)))     up: nearest, back to the map

    theta_minus   gather averages                                            excite: nothing
    theta         gather is a depthwise convolution and a batch norm         excite: nothing
    theta_plus    as theta, then relu                                        excite: W2 relu(W1 g)

The authors' files have the whole map only. With an extent, as recalled and not verified,
theta_minus averages windows of 2e - 1 at stride e (padding not counted), theta has log2(e)
depthwise 3x3 convolutions of stride 2, each with a batch norm, and a relu between them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import GateBlock, Info, batch_norm_nd, conv_nd
from convattn.blocks._pooled import (
    check_pooled_norm,
    check_size,
    nearest_weights,
    resample,
    window_weights,
)
from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError, InputError
from convattn.ops import global_mean, mix_channels

__all__ = ["GE"]


class GE(GateBlock):
    """Gather-Excite.

    Args:
        channels: C.
        mode: "theta_minus", "theta" or "theta_plus".
        extent: e, a power of two; None gathers over the whole map.
        size: of the map, one number per axis; given where, and only where, a convolution gathers
            the whole map.
        reduction: hidden channels of "theta_plus" are m = C // reduction.
        bias: bias in the convolutions that gather.
        ndim: number of axes of the map; 1, 2 or 3.

    Shape:
        (N, C, H, W) -> (N, C, H, W), any H, W, or exactly `size`. Gate (N, C, 1, 1), with an extent
        (N, C, H, W). In training the batch norm of a whole map needs N > 1.

    Cost:
        theta_minus no parameters; theta CHW + 2C parameters, CHW MACs; theta_plus 2Cm + m + C
        parameters, 2Cm MACs more. With an extent theta has 11C log2(e) parameters, and pooling to
        H' x W' and back, as matrix products, C(HH'W + H'WW') and C(HH'W' + HWW') MACs.
        A bias adds C parameters for each convolution.
    """

    info = Info(
        title="Gather-Excite",
        summary="Gathers each channel over an extent and gates the values by it.",
        paper="Gather-Excite: Exploiting Feature Context in CNNs, NeurIPS 2018",
        arxiv="1810.12348",
        year=2018,
        repository="hujie-frank/GENet",
        licence="no licence file",
        positions=("before_add",),
        aliases=("genet", "gather_excite"),
        deviations=(
            "Finite extents follow the paper as recalled, not verified.",
            "The port in the SRM repository has a bias in the depthwise convolution (bias=True).",
            "Wrong in timm 1.0.31: its GatherExcite cannot be constructed.",
        ),
    )
    no_identity = "Mode 'theta_minus' has no parameter: its gate is the sigmoid of the map's means."

    def __init__(
        self,
        channels: int,
        *,
        mode: str = "theta_minus",
        extent: int | None = None,
        size: tuple[int, ...] | None = None,
        reduction: int = 16,
        bias: bool = False,
        ndim: int = 2,
    ) -> None:
        super().__init__(channels, ndim)
        check_choice("GE", "mode", mode, ("theta_minus", "theta", "theta_plus"))
        check_choice("GE", "extent", extent, (None, 2, 4, 8, 16, 32, 64))
        check_positive("GE", "reduction", reduction)
        if (size is not None) != (mode != "theta_minus" and extent is None):
            raise ArgumentError(
                "GE: mode 'theta' or 'theta_plus' needs either extent or size, 'theta_minus' no "
                f"size; got mode={mode!r}, extent={extent}, size={size!r}"
            )
        self.mode, self.extent = mode, extent
        self.size = None if size is None else check_size("GE", "size", size, ndim)
        if mode != "theta_minus":
            steps = extent.bit_length() - 1 if extent else 1  # halve the map log2(e) times
            kernel: Any = self.size or 3
            stride, padding = (1, 0) if self.size else (2, 1)
            conv = partial(conv_nd(ndim), channels, channels, groups=channels, bias=bias)
            self.gather = nn.ModuleList(conv(kernel, stride, padding) for _ in range(steps))
            self.gather_bn = nn.ModuleList(batch_norm_nd(ndim)(channels) for _ in range(steps))
        elif bias:
            raise ArgumentError("GE: bias=True needs mode 'theta' or 'theta_plus'")
        if mode == "theta_plus":
            hidden = self._hidden(reduction)
            self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def logit_layers(self) -> list[nn.Module]:
        """Zeroed for a start as the identity."""
        if self.mode == "theta_plus":
            return [self.up]
        return [self.gather_bn[-1]] if self.mode == "theta" else []

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """One gate (N, C, 1, 1), or (N, C, H, W) with an extent."""
        gathered = self._average(x) if self.mode == "theta_minus" else self._convolve(x)
        if self.mode == "theta_plus":
            hidden = mix_channels(F.relu(gathered).flatten(2), self.down.weight, self.down.bias)
            mixed = mix_channels(F.relu(hidden), self.up.weight, self.up.bias)
            gathered = mixed.unflatten(2, gathered.shape[2:])
        if self.extent:
            sizes = zip(x.shape[2:], gathered.shape[2:], strict=True)
            gathered = resample(gathered, *(nearest_weights(*pair, x) for pair in sizes))
        return (self.gate(gathered),)

    def _average(self, x: Tensor) -> Tensor:
        if not self.extent:
            return self._over_map(global_mean(x))
        return resample(x, *(window_weights(self.extent, length, x) for length in x.shape[2:]))

    def _convolve(self, x: Tensor) -> Tensor:
        if self.size and not torch.jit.is_tracing() and x.shape[2:] != self.size:  # type: ignore[attr-defined]
            raise InputError(
                f"GE was built with size={self.size} for maps of exactly that size, got "
                f"{tuple(x.shape)}. Build it for this size, or use mode 'theta_minus'."
            )
        for i, (conv, norm) in enumerate(zip(self.gather, self.gather_bn, strict=True)):
            x = conv(F.relu(x) if i else x)
            check_pooled_norm(self, x[:, 0].numel(), "the gathered map")
            x = norm(x)
        return x
