"""The bases of the block families and the facts that each block states about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convattn.core.checks import check_choice, check_feature_map, check_positive
from convattn.core.errors import ArgumentError
from convattn.ops import apply_gates

__all__ = ["Block", "ContextBlock", "ConvBlock", "GateBlock", "Info", "batch_norm_nd", "conv_nd"]


@dataclass(frozen=True)
class Info:
    """Facts about a block; all texts in the field's words.

    Attributes:
        title: full name.
        summary: one sentence on the idea.
        paper: title of the paper, venue and year.
        arxiv: identifier on arXiv, or "" where there is none.
        year: year of publication.
        repository: owner/name of the authors' code, or "" where there is none.
        licence: licence of that code.
        positions: where the authors put it, best known first.
        aliases: other names that resolve to it.
        deviations: where this block differs from the paper or from known copies.
        min_channels: smallest `channels` with default arguments.
    """

    title: str
    summary: str
    paper: str = ""
    arxiv: str = ""
    year: int = 0
    repository: str = ""
    licence: str = ""
    positions: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    min_channels: int = 1


class Block(nn.Module):
    """An attention block: (N, C, *axes) -> (N, C, *axes), for images (N, C, H, W).

    Args:
        channels: C, at least 1; None for any, where no parameter depends on it.
        ndim: number of axes: 1 for (N, C, L), 2 for (N, C, H, W), 3 for (N, C, D, H, W).

    Raises:
        ArgumentError: an argument is out of range.
        InputError: in forward, the input is not such a floating tensor.
    """

    info: ClassVar[Info]
    family: ClassVar[str]
    any_channels: ClassVar[bool] = False

    def __init__(self, channels: int | None, ndim: int = 2) -> None:
        super().__init__()
        name = type(self).__name__
        if channels is not None or not self.any_channels:
            check_positive(name, "channels", channels)
        check_choice(name, "ndim", ndim, (1, 2, 3))
        self._channels = channels
        self.ndim = ndim

    @property
    def channels(self) -> int:
        """C; refused for a block built for any number."""
        if self._channels is None:
            raise ArgumentError(f"{type(self).__name__} was built for any number of channels")
        return self._channels

    def extra_repr(self) -> str:
        """Shown by print(block)."""
        return f"channels={self._channels}" + (f", ndim={self.ndim}" if self.ndim != 2 else "")

    def _hidden(self, reduction: int, minimum: int = 0) -> int:
        """max(minimum, channels // reduction), refused when nothing is left."""
        name = type(self).__name__
        check_positive(name, "reduction", reduction)
        hidden = max(minimum, self.channels // reduction)
        if hidden < 1:
            raise ArgumentError(
                f"{name}(channels={self.channels}, reduction={reduction}) leaves no hidden "
                f"channel. Use channels >= {reduction}, or reduction <= {self.channels}."
            )
        return hidden

    def start_as_identity(self) -> None:
        """Make the untrained block return its input, bit for bit in eval mode.

        Raises:
            ArgumentError: the block's definition does not allow it; the text says why.
        """
        raise ArgumentError(f"{type(self).__name__} cannot start as the identity")

    def _over_map(self, values: Tensor) -> Tensor:
        """(N, C) -> (N, C, 1, ...), to be broadcast over the map."""
        return values[(..., *(None,) * self.ndim)]


class GateBlock(Block):
    """y = x * gate * gate ...: subclasses say in `gates` what the map is multiplied by."""

    family = "gate"
    gate_scale: float = 1.0

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """The gates for x, each broadcastable to x."""
        raise NotImplementedError

    def logit_layers(self) -> list[nn.Module]:
        """The layers whose outputs are the gates' logits."""
        return []

    def start_as_identity(self) -> None:
        """Zero the logits and double the gates: 2 * sigmoid(0) = 1. Gradients still flow."""
        layers = self.logit_layers()
        if not layers:
            super().start_as_identity()
        for layer in layers:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.gate_scale = 2.0

    def gate(self, logits: Tensor) -> Tensor:
        """The logistic function, times `gate_scale` (2 turns logits of 0 into a gate of 1)."""
        gate = torch.sigmoid(logits)
        return gate if self.gate_scale == 1.0 else gate * self.gate_scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes)."""
        check_feature_map(self, x, self._channels, self.ndim)
        return apply_gates(x, self.gates(x))


class ContextBlock(Block):
    """y = x + context(x): subclasses say in `context` what is added to the map."""

    family = "context"

    def context(self, x: Tensor) -> Tensor:
        """What is added to x, broadcastable to x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes)."""
        check_feature_map(self, x, self._channels, self.ndim)
        return x + self.context(x)


class ConvBlock(Block):
    """Stands in for a convolution: (N, C, H, W) -> (N, out_channels, H/stride, W/stride).

    Args:
        channels: C of the input.
        out_channels: of the output; None for C.
        stride: 1 or more.
    """

    family = "conv"

    def __init__(self, channels: int, out_channels: int | None = None, stride: int = 1) -> None:
        super().__init__(channels)
        self.out_channels = channels if out_channels is None else out_channels
        check_positive(type(self).__name__, "out_channels", self.out_channels)
        check_positive(type(self).__name__, "stride", stride)
        self.stride = stride

    def convolve(self, x: Tensor) -> Tensor:
        """The output for x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W')."""
        check_feature_map(self, x, self._channels, self.ndim)
        return self.convolve(x)


def conv_nd(ndim: int) -> type[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """The convolution over `ndim` axes."""
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[ndim - 1]


def batch_norm_nd(ndim: int) -> type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The batch norm over `ndim` axes."""
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 1]
