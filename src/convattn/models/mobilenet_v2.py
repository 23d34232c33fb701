"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2, CVPR 2018. Layer table and initialisation as
in houqb/CoordAttention `mbv2_ca.py`, shared with torchvision and d-li14/mobilenetv2.pytorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from convattn.core.checks import check_choice, check_number, check_positive
from convattn.core.errors import ArgumentError
from convattn.insertion.slots import Slot, Where, number_slots
from convattn.models._layers import ConvNormAct, make_divisible
from convattn.models._maps import dilate, each_size, last_of_each_size

__all__ = ["MobileNetV2", "mobilenet_v2"]

#         expansion t, output channels c, repeats n
STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)  # of the stem, then of each stage


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection, sum with the input.

    A block without expansion (t = 1) has no slots `after_expand` and `after_depthwise`, as CA's
    authors attend only to expanded maps.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: float,
        dilation: int = 1,
        same: bool = False,
    ) -> None:
        super().__init__()
        expands = expansion != 1
        wide = round(inputs * expansion)
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvNormAct(inputs, wide, 1) if expands else nn.Identity()
        self.after_expand = Slot("after_expand", wide) if expands else nn.Identity()
        self.depthwise = ConvNormAct(
            wide, wide, 3, stride, groups=wide, dilation=dilation, same=same
        )
        self.after_depthwise = Slot("after_depthwise", wide) if expands else nn.Identity()
        self.project = ConvNormAct(wide, outputs, 1, act=None)
        self.before_add = Slot("before_add", outputs)
        self.after_add = Slot("after_add", outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H/stride), ceil(W/stride))."""
        wide = self.after_expand(self.expand(x))
        wide = self.after_depthwise(self.depthwise(wide))
        y = self.before_add(self.project(wide))
        return self.after_add(x + y if self.residual else y)


class MobileNetV2(nn.Module):
    """MobileNetV2.

    Args:
        width_mult: factor on all widths but the last, which grows only above 1.
        num_classes: K; 0 leaves the classifier out.
        in_channels: of the image.
        dropout: probability before the classifier.
        zero_init_residual: start the last norm of each block with a shortcut at 0, so that the
            block starts as the identity and short trainings start faster; not the authors'.
        strides: of the stem and of the seven stages; the default has output stride 32, small
            images want less: (1, 1, 1, 2, 2, 1, 2, 1) for 32x32.
        round_widths: to multiples of 8; without, as in the code of ECA and Triplet Attention, to
            whole numbers.
        features_only: return the last map of each size, and have no classifier.
        output_stride: 32, 16 or 8: later stages keep the map's size and dilate instead.
        same_padding: pad as TensorFlow does, for weights trained there.

    Shape:
        (N, in_channels, H, W) -> logits (N, K); pooled features (N, 1280) with `num_classes=0`;
        five maps of strides 2 to 32 with `features_only`.

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "after_depthwise"
    # where the authors of a block put it in their MobileNetV2, if elsewhere
    places: ClassVar[Mapping[str, tuple[Where, ...]]] = {
        **dict.fromkeys(("eca", "triplet"), (Where("before_add"),)),
        "simam": (Where("before_norm"),),
    }

    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.1,
        zero_init_residual: bool = False,
        strides: tuple[int, ...] = STRIDES,
        round_widths: bool = True,
        features_only: bool = False,
        output_stride: int = 32,
        same_padding: bool = False,
    ) -> None:
        super().__init__()
        check_number("MobileNetV2", "width_mult", width_mult)
        check_positive("MobileNetV2", "num_classes", num_classes, least=0)
        check_positive("MobileNetV2", "in_channels", in_channels)
        check_number("MobileNetV2", "dropout", dropout, "a number from 0 to 1")
        check_choice("MobileNetV2", "output_stride", output_stride, (8, 16, 32))
        if len(strides) != len(STRIDES) or any(s not in (1, 2) for s in strides):
            raise ArgumentError(
                f"MobileNetV2: strides must be {len(STRIDES)} values of 1 or 2 (stem, then the "
                f"stages), got {tuple(strides)!r}; the default is {STRIDES}"
            )

        def width_of(channels: float) -> int:
            divisor = 4 if width_mult == 0.1 else 8
            return make_divisible(channels, divisor) if round_widths else int(channels)

        width = width_of(32 * width_mult)
        self.stem = ConvNormAct(in_channels, width, 3, strides[0], same=same_padding)
        stages: list[list[InvertedResidual]] = []
        plan = dilate(strides[1:], output_stride, reached=strides[0])
        for (expansion, channels, repeats), (stride, (first, others)) in zip(
            STAGES, plan, strict=True
        ):
            outputs = width_of(channels * width_mult)
            blocks = [InvertedResidual(width, outputs, stride, expansion, first, same_padding)]
            for _ in range(1, repeats):
                blocks.append(
                    InvertedResidual(outputs, outputs, 1, expansion, others, same_padding)
                )
            stages.append(blocks)
            width = outputs
        self.blocks = nn.Sequential(*itertools.chain(*stages))
        self.taps = last_of_each_size([n for _, _, n in STAGES], strides[1:])
        last = width_of(1280 * max(1.0, width_mult))
        self.features_only, self.num_features = features_only, last
        if not features_only:
            self.head = ConvNormAct(width, last, 1)
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Linear(last, num_classes) if num_classes else nn.Identity()
        number_slots(stages)
        self.apply(initialise)
        if zero_init_residual:
            for block in itertools.chain(*stages):
                if block.residual:
                    nn.init.zeros_(block.get_parameter("project.norm.weight"))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, in_channels, H, W) -> (N, num_classes), or a map of each size."""
        x = self.stem(x)
        if self.features_only:
            return each_size(self.blocks, self.taps, x)
        x = self.head(self.blocks(x))
        return self.classifier(self.dropout(x.mean((2, 3))))


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """The authors' rule for one layer."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        module.weight.normal_(0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        module.weight.normal_(0, 0.01)
        module.bias.zero_()


mobilenet_v2 = MobileNetV2
