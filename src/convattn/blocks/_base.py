"""The bases of the block families and the facts that each block states about itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.core.checks import check_choice, check_feature_map, check_positive
from convattn.core.errors import ArgumentError
from convattn.ops import attend

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
        two_axes: one sentence why the map must have two axes; "" for a block with `ndim`.
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
    two_axes: str = ""


class Block(nn.Module):
    """An attention block: (N, C, *axes) -> (N, C, *axes), for images (N, C, H, W).

    Args:
        channels: C, at least 1; None for any, where no parameter depends on it.
        ndim: number of axes: 1 for (N, C, L), 2 for (N, C, H, W), 3 for (N, C, D, H, W).

    Raises:
        ArgumentError: an argument is out of range.
        InputError: in forward, the input is not such a floating tensor.

    Attributes:
        no_identity: one sentence why the block, or which form of it, cannot start as the identity;
            "" where every form can.
        gate_scale: what the gates' sigmoids are multiplied by. It is a setting of the block, as its
            arguments are, and not in the state dict: a state dict fits a block made by the same
            calls, `start_as_identity` among them.
    """

    info: ClassVar[Info]
    family: ClassVar[str]
    any_channels: ClassVar[bool] = False
    no_identity: ClassVar[str] = ""
    gate_scale: float = 1.0

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
        """Make the block return its input, bit for bit in eval mode, and still learn.

        Only its last layers change: logits become 0 and their gates are doubled, 2 * sigmoid(0) =
        1; gates that are a layer's output become 1; what is added becomes 0. The last layers have
        a gradient at once, all others as soon as these have moved. `gate_scale` stays doubled:
        build and start a block in the same way before a state dict of this one is loaded into it.

        Raises:
            ArgumentError: the block's definition does not allow it; the text says why, and the
                block is as it was.
        """
        if not self.can_start_as_identity():
            reason = self.no_identity or "it does not say which of its layers come last."
            raise ArgumentError(f"{type(self).__name__} cannot start as the identity: {reason}")
        logits = self.logit_layers()
        for last in (*logits, *self.zero_layers()):
            for parameter in _parameters(last):
                nn.init.zeros_(parameter)
        for layer in self.unit_layers():
            for name, parameter in layer.named_parameters():
                nn.init.constant_(parameter, float(name == "bias"))
        if logits:
            self.gate_scale = 2.0

    def can_start_as_identity(self) -> bool:
        """Whether this form of the block can; `no_identity` says why not."""
        return any((self.logit_layers(), self.zero_layers(), self.unit_layers()))

    def logit_layers(self) -> Sequence[nn.Module | nn.Parameter]:
        """Layers and parameters whose outputs are logits of `gate`: zeroed, and the gate doubled.

        Of factors only one: a product of two zeros has no gradient.
        """
        return ()

    def zero_layers(self) -> Sequence[nn.Module | nn.Parameter]:
        """Layers and parameters that end what is added to the map, or to a gate of 1: zeroed."""
        return ()

    def unit_layers(self) -> Sequence[nn.Module]:
        """Layers whose outputs are gates without a sigmoid: weight 0, bias 1."""
        return ()

    def _whole(self, x: Tensor) -> Tensor | None:
        """The output for x by one operator, or None where there is none for this form and this x.

        It is what `gates` or `context` give, with gradients where these are on.
        """
        return None

    def gate(self, logits: Tensor) -> Tensor:
        """The logistic function, times `gate_scale` (2 turns logits of 0 into a gate of 1)."""
        gate = torch.sigmoid(logits)
        return gate if self.gate_scale == 1.0 else gate * self.gate_scale

    def _over_map(self, values: Tensor) -> Tensor:
        """(N, C) -> (N, C, 1, ...), to be broadcast over the map."""
        return values[(..., *(None,) * self.ndim)]


class GateBlock(Block):
    """y = x * gate * gate ...: subclasses say in `gates` what the map is multiplied by."""

    family = "gate"

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """The gates for x, each broadcastable to x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes)."""
        check_feature_map(self, x, self._channels, self.ndim)
        y = self._whole(x)
        return attend(x, self.gates) if y is None else y


class ContextBlock(Block):
    """y = x + context(x): subclasses say in `context` what is added to the map."""

    family = "context"

    def context(self, x: Tensor) -> Tensor:
        """What is added to x, broadcastable to x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *axes) -> (N, C, *axes)."""
        check_feature_map(self, x, self._channels, self.ndim)
        y = self._whole(x)
        return x + self.context(x) if y is None else y


class ConvBlock(Block):
    """Stands in for a convolution: (N, C, H, W) -> (N, out_channels, H/stride, W/stride).

    Args:
        channels: C of the input.
        out_channels: of the output; None for C.
        stride: 1 or more.
        ndim: number of axes of the map; 1, 2 or 3.
    """

    family = "conv"
    no_identity = "It stands in for a convolution, whose output is another map than its input."

    def __init__(
        self, channels: int, out_channels: int | None = None, stride: int = 1, ndim: int = 2
    ) -> None:
        super().__init__(channels, ndim)
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


def _parameters(last: nn.Module | nn.Parameter) -> Iterable[nn.Parameter]:
    return (last,) if isinstance(last, nn.Parameter) else last.parameters()


class _Conv3d(nn.Conv3d):
    """Pads the map itself where PyTorch's own padding is not safe.

    On the CPU PyTorch 2.15 computes the weight's gradient wrongly in bfloat16, and writes beyond
    its memory, where an axis is shorter than the kernel; not so on a map that was padded before.
    """

    def forward(self, input: Tensor) -> Tensor:
        bfloat16 = input.dtype == torch.bfloat16 or (
            torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        )
        if not bfloat16 or input.device.type != "cpu" or not any(self.padding):
            return super().forward(input)
        x = F.pad(input, self._reversed_padding_repeated_twice)
        return F.conv3d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def conv_nd(ndim: int) -> type[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """The convolution over `ndim` axes."""
    return (nn.Conv1d, nn.Conv2d, _Conv3d)[ndim - 1]


def batch_norm_nd(ndim: int) -> type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The batch norm over `ndim` axes."""
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 1]
