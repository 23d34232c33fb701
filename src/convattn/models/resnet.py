"""ResNet: residual networks of basic or bottleneck blocks.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, table 1. The stride of
a bottleneck is in its 3x3 convolution ("v1.5"), as in torchvision and all attention papers' PyTorch
code; the paper has it in the first 1x1. Names of layers, and so keys, are torchvision's, which the
attention papers' code kept too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError
from convattn.insertion.slots import ConvSlot, Slot, Where, number_slots
from convattn.models._maps import dilate

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
]

PLANES = (64, 128, 256, 512)  # of the four stages


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


class ResNet(nn.Module):
    """ResNet.

    Args:
        block: `BasicBlock`, `Bottleneck`, or a class that is built like them.
        depths: blocks of the four stages.
        num_classes: K; 0 leaves the classifier out.
        in_channels: of the image.
        features_only: return the maps of the four stages, and have no classifier.
        output_stride: 32, 16 or 8: later stages keep the map's size and dilate instead.
        strides: of the four stages.
        stem: "imagenet", 7x7 at stride 2 and max pooling; "cifar", 3x3 at stride 1 alone.
        zero_init_residual: start the last norm of each block at 0, so that it starts as its
            shortcut; not the paper's.

    Shape:
        (N, in_channels, H, W) -> logits (N, K); pooled features with `num_classes=0`; four maps
        with `features_only`, the first of stride 4.

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "before_add"
    # where the authors of a block put it in their ResNets, if elsewhere (or not in all stages)
    places: ClassVar[Mapping[str, tuple[Where, ...]]] = {
        "bam": (Where("stage_end", stages=(1, 2, 3)),),
        "gala": (Where("before_add", blocks="first"),),
        "gc": (Where("before_add", stages=(2, 3, 4)),),
        "gsop": (Where("before_add", blocks="last"),),
        "non_local": (Where("after_add", stages=(2, 3), blocks="second"),),
        "a2": (Where("after_add", stages=(2, 3), blocks="second"),),
        "simam": (Where("after_conv2"),),
        "spm": (
            Where("before_project", stages=(1, 2, 3), blocks="last"),
            Where("before_project", stages=(4,)),
        ),
        "aa": (Where("conv3x3", stages=(2, 3, 4)),),
        **dict.fromkeys(("psa", "scconv", "sk"), (Where("conv3x3"),)),
    }

    def __init__(
        self,
        block: Any,
        depths: tuple[int, int, int, int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        features_only: bool = False,
        output_stride: int = 32,
        strides: tuple[int, int, int, int] = (1, 2, 2, 2),
        stem: str = "imagenet",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ArgumentError(f"ResNet: num_classes must be 0 or more, got {num_classes!r}")
        if len(strides) != 4 or any(s not in (1, 2) for s in strides):
            raise ArgumentError(f"ResNet: strides must be 4 values of 1 or 2, got {strides!r}")
        check_positive("ResNet", "in_channels", in_channels)
        check_choice("ResNet", "output_stride", output_stride, (8, 16, 32))
        check_choice("ResNet", "stem", stem, ("imagenet", "cifar"))
        self.features_only = features_only
        kernel, stride, reached = (7, 2, 4) if stem == "imagenet" else (3, 1, 1)
        self.conv1 = nn.Conv2d(in_channels, 64, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        width = 64
        plan = dilate(strides, output_stride, reached)
        for i, (planes, depth, stage) in enumerate(zip(PLANES, depths, plan, strict=True), 1):
            self.add_module(f"layer{i}", _stage(block, width, planes, depth, *stage))
            width = planes * block.expansion
        self.stage_end = nn.ModuleList(Slot("stage_end", p * block.expansion) for p in PLANES)
        self.num_features = width
        classes = 0 if features_only else num_classes
        self.fc = nn.Linear(width, classes) if classes else nn.Identity()
        number_slots(self.layers())
        number_slots([end] for end in self.stage_end)
        self._initialise(zero_init_residual)

    def layers(self) -> list[list[nn.Module]]:
        """The residual blocks of each stage."""
        return [list(self.get_submodule(f"layer{i}").children()) for i in range(1, 5)]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, in_channels, H, W) -> (N, num_classes), or the maps of the stages."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for i, end in enumerate(self.stage_end, 1):
            x = end(self.get_submodule(f"layer{i}")(x))
            maps.append(x)
        return maps if self.features_only else self.fc(x.mean((2, 3)))

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for block in itertools.chain(*self.layers()):
                last = "bn3" if hasattr(block, "bn3") else "bn2"
                nn.init.zeros_(block.get_parameter(f"{last}.weight"))


def _stage(
    block: Any,
    inputs: int,
    planes: int,
    depth: int,
    stride: int,
    dilations: tuple[int, int],  # of the first block and of the others
) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
    blocks = [block(inputs, planes, stride, dilation=dilations[0], shortcut=shortcut)]
    for _ in range(1, depth):
        blocks.append(block(outputs, planes, dilation=dilations[1]))
    return nn.Sequential(*blocks)


# table 1 of the paper
resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
