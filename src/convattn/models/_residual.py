"""The residual blocks of ResNets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.insertion.slots import ConvSlot, Slot

__all__ = ["BasicBlock", "Bottleneck", "PadShortcut"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut; the block of ResNet-18 and -34.

    Args:
        inputs: channels of the input.
        planes: channels of both convolutions.
        stride: of the first.
        dilation: of both.
        shortcut: for an input whose shape is not the output's.
    """

    expansion = 1

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = ConvSlot(inputs, planes, 3, stride, dilation, dilation, bias=False)
        self.after_conv1 = Slot("after_conv1", planes)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = ConvSlot(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.after_conv2 = Slot("after_conv2", planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.before_add = Slot("before_add", planes)
        self.downsample = shortcut
        self.after_add = Slot("after_add", planes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, planes, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.bn1(self.after_conv1(self.conv1(x))))
        y = self.bn2(self.after_conv2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.after_add(F.relu(self.before_add(y) + shortcut))


class Bottleneck(nn.Module):
    """1x1 reduction, 3x3 convolution, 1x1 expansion and the shortcut; from ResNet-50 on.

    Args:
        inputs: channels of the input.
        planes: channels of the 3x3 convolution; the output has 4 planes.
        stride: of the 3x3 convolution, as is the dilation.
        dilation: 1 or more.
        shortcut: for an input whose shape is not the output's.
    """

    expansion = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.after_conv1 = Slot("after_conv1", planes)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = ConvSlot(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.after_conv2 = Slot("after_conv2", planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.before_project = Slot("before_project", planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.before_add = Slot("before_add", outputs)
        self.downsample = shortcut
        self.after_add = Slot("after_add", outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 planes, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.bn1(self.after_conv1(self.conv1(x))))
        y = F.relu(self.bn2(self.after_conv2(self.conv2(y))))
        y = self.bn3(self.conv3(self.before_project(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.after_add(F.relu(self.before_add(y) + shortcut))


class PadShortcut(nn.Module):
    """The shortcut without parameters, option A of the paper: strided, zeros for new channels.

    Args:
        new_channels: how many; the zeros are half before and half behind the old ones.
        stride: of the positions that are kept.
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.before, self.behind = new_channels // 2, new_channels - new_channels // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + new_channels, ceil(H/stride), ceil(W/stride))."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.behind))
