"""Layers that several networks share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.insertion.slots import Slot
from convattn.ops import attend, global_mean

__all__ = [
    "ConvNormAct",
    "InvertedBottleneck",
    "SameConv2d",
    "SqueezeExcite",
    "make_divisible",
]

ReLU6 = partial(nn.ReLU6, inplace=True)


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, at least `divisor` and 0.9 `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class SameConv2d(nn.Conv2d):
    """TensorFlow's padding SAME: as much as the map's size needs, the odd one right and below.

    At stride 2 and even sizes a 3x3 kernel then starts at the first position, where `padding=1`
    starts one before it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride))."""
        pads: list[int] = []
        axes = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        for size, kernel, stride, dilation in reversed(list(axes)):  # F.pad begins at the last
            total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        return self._conv_forward(F.pad(x, pads), self.weight, self.bias)


class ConvNormAct(nn.Module):
    """Convolution without bias, norm and activation; keeps the size at stride 1.

    A depthwise convolution has a slot between convolution and norm, where SimAM's authors attend.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        act: Callable[[], nn.Module] | None = ReLU6,
        dilation: int = 1,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        same: bool = False,
    ) -> None:
        super().__init__()
        kind, padding = (SameConv2d, 0) if same else (nn.Conv2d, kernel_size // 2 * dilation)
        self.conv = kind(
            inputs, outputs, kernel_size, stride, padding, dilation, groups, bias=False
        )
        self.before_norm = Slot("before_norm", outputs) if groups > 1 else nn.Identity()
        self.norm = norm(outputs)
        self.act = act() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H/stride), ceil(W/stride))."""
        return self.act(self.norm(self.before_norm(self.conv(x))))


class SqueezeExcite(Slot):
    """The network's own Squeeze-and-Excitation: a slot "se" that a block takes over."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        act: Callable[[], nn.Module],
        gate: Callable[[], nn.Module],
    ) -> None:
        super().__init__("se", channels)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.act = act()
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return attend(x, self._gates)

    def _gates(self, x: Tensor) -> tuple[Tensor, ...]:
        # matrix products, which compile once for all sizes of the map
        hidden = self.act(F.linear(global_mean(x), self.fc1.weight.flatten(1), self.fc1.bias))
        gate = self.gate(F.linear(hidden, self.fc2.weight.flatten(1), self.fc2.bias))
        return (gate[..., None, None],)


class _DropSamples(nn.Module):
    """Stochastic depth: in training the branch of a sample is 0 with probability p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if not self.training or self.p == 0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.p)
        return x * keep.div_(1 - self.p)


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise convolution, Squeeze-and-Excitation, linear 1x1, sum with the input.

    MobileNetV3's and EfficientNet's block.

    Args:
        inputs: channels.
        wide: channels between; no expansion where they equal the inputs.
        outputs: channels.
        kernel_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        act: activation.
        squeeze: makes the Squeeze-and-Excitation for `wide` channels, if there is one.
        dilation: of the depthwise convolution.
        norm: makes a norm.
        drop: probability of stochastic depth.
        act_last: activate the wide map behind the Squeeze-and-Excitation, not before it.
    """

    def __init__(
        self,
        inputs: int,
        wide: int,
        outputs: int,
        kernel_size: int,
        stride: int,
        act: Callable[[], nn.Module],
        squeeze: Callable[[int], SqueezeExcite] | None,
        dilation: int = 1,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        drop: float = 0.0,
        act_last: bool = False,
    ) -> None:
        super().__init__()
        expands = wide != inputs
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvNormAct(inputs, wide, 1, act=act, norm=norm) if expands else nn.Identity()
        self.after_expand = Slot("after_expand", wide) if expands else nn.Identity()
        first_act = None if act_last else act
        self.depthwise = ConvNormAct(
            wide, wide, kernel_size, stride, wide, first_act, dilation, norm
        )
        self.after_depthwise = Slot("after_depthwise", wide)
        self.se = squeeze(wide) if squeeze else nn.Identity()
        self.act = act() if act_last else nn.Identity()
        self.before_project = Slot("before_project", wide)
        self.project = ConvNormAct(wide, outputs, 1, act=None, norm=norm)
        self.before_add = Slot("before_add", outputs)
        self.drop = _DropSamples(drop) if self.residual else nn.Identity()
        self.after_add = Slot("after_add", outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H/stride), ceil(W/stride))."""
        wide = self.after_expand(self.expand(x))
        wide = self.act(self.se(self.after_depthwise(self.depthwise(wide))))
        y = self.drop(self.before_add(self.project(self.before_project(wide))))
        return self.after_add(x + y if self.residual else y)
