"""ResNet: residual networks of basic or bottleneck blocks.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016, table 1, and for CIFAR
(20 to 110 layers, three stages, shortcuts without parameters) section 4.2. The stride of
a bottleneck is in its 3x3 convolution ("v1.5"), as in torchvision and all attention papers' PyTorch
code; the paper has it in the first 1x1. Names of layers, and so keys, are torchvision's, which the
attention papers' code kept too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError
from convattn.insertion.slots import Slot, Where, number_slots
from convattn.models._maps import dilate
from convattn.models._residual import BasicBlock, Bottleneck, PadShortcut

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
]

PLANES = (64, 128, 256, 512)  # of the stages


class ResNet(nn.Module):
    """ResNet.

    Args:
        block: `BasicBlock`, `Bottleneck`, or a class that is built like them.
        depths: blocks of each stage.
        num_classes: K; 0 leaves the classifier out.
        in_channels: of the image.
        features_only: return the maps of the stages, and have no classifier.
        output_stride: 32, 16 or 8: later stages keep the map's size and dilate instead.
        strides: of the stages; None for 1 in the first and 2 in the others.
        stem: "imagenet", 7x7 at stride 2 and max pooling; "cifar", 3x3 at stride 1 alone.
        planes: channels of each stage's 3x3 convolutions; those of the stem are the first.
        shortcut: where the shape changes, "conv", a 1x1 convolution, or "pad", zeros for the new
            channels.
        zero_init_residual: start the last norm of each block at 0, so that it starts as its
            shortcut; not the paper's.

    Shape:
        (N, in_channels, H, W) -> logits (N, K); pooled features with `num_classes=0`; the stages'
        maps with `features_only`, the first of stride 4, or 1 with the stem for CIFAR.

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
        depths: tuple[int, ...],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        features_only: bool = False,
        output_stride: int = 32,
        strides: tuple[int, ...] | None = None,
        stem: str = "imagenet",
        planes: tuple[int, ...] = PLANES,
        shortcut: str = "conv",
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        check_positive("ResNet", "num_classes", num_classes, least=0)
        count = len(depths)
        strides = (1, *(2,) * (count - 1)) if strides is None else strides
        if len(strides) != count or any(s not in (1, 2) for s in strides):
            raise ArgumentError(
                f"ResNet: strides must be {count} values of 1 or 2, got {strides!r}"
            )
        if len(planes) != count or any(not isinstance(p, int) or p < 1 for p in planes):
            raise ArgumentError(f"ResNet: planes must be {count} positive integers, got {planes!r}")
        check_positive("ResNet", "in_channels", in_channels)
        check_choice("ResNet", "output_stride", output_stride, (8, 16, 32))
        check_choice("ResNet", "stem", stem, ("imagenet", "cifar"))
        check_choice("ResNet", "shortcut", shortcut, ("conv", "pad"))
        self.features_only = features_only
        kernel, stride, reached = (7, 2, 4) if stem == "imagenet" else (3, 1, 1)
        width = planes[0]
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        plan = dilate(strides, output_stride, reached)
        for i, (p, depth, stage) in enumerate(zip(planes, depths, plan, strict=True), 1):
            self.add_module(f"layer{i}", _stage(block, width, p, depth, shortcut, *stage))
            width = p * block.expansion
        self.stage_end = nn.ModuleList(Slot("stage_end", p * block.expansion) for p in planes)
        self.num_features = width
        classes = 0 if features_only else num_classes
        self.fc = nn.Linear(width, classes) if classes else nn.Identity()
        number_slots(self.layers())
        number_slots([end] for end in self.stage_end)
        self._initialise(zero_init_residual)

    def layers(self) -> list[list[nn.Module]]:
        """The residual blocks of each stage."""
        count = len(self.stage_end)
        return [list(self.get_submodule(f"layer{i + 1}").children()) for i in range(count)]

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
    shortcut: str,
    stride: int,
    dilations: tuple[int, int],  # of the first block and of the others
) -> nn.Sequential:
    outputs = planes * block.expansion
    changed: nn.Module | None = None
    if stride != 1 or inputs != outputs:
        changed = (
            PadShortcut(outputs - inputs, stride)
            if shortcut == "pad"
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )
    blocks = [block(inputs, planes, stride, dilation=dilations[0], shortcut=changed)]
    for _ in range(1, depth):
        blocks.append(block(outputs, planes, dilation=dilations[1]))
    return nn.Sequential(*blocks)


# table 1 of the paper
resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))


def _cifar(depth: int) -> Callable[..., ResNet]:
    """Section 4.2 of the paper: 6n + 2 layers."""
    return partial(
        ResNet,
        BasicBlock,
        (depth // 6,) * 3,
        num_classes=10,
        stem="cifar",
        planes=(16, 32, 64),
        shortcut="pad",
    )


resnet20 = _cifar(20)
resnet32 = _cifar(32)
resnet44 = _cifar(44)
resnet56 = _cifar(56)
resnet110 = _cifar(110)
