"""MobileNeXt: sandglass blocks, wide at both ends.

Zhou, Hou, Chen, Feng, Yan: Rethinking Bottleneck Structure for Efficient Mobile Network Design,
ECCV 2020. Layer table as in the code, zhoudaquan/rethinking_bottleneck_design
`mobilenext/codebase/models/mnext.py`, which differs from the paper's table: 1280 channels come
from a sandglass block without a shortcut, with no convolution behind it.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from convattn.core.checks import check_choice, check_number, check_positive
from convattn.insertion.slots import Slot, number_slots
from convattn.models._layers import ConvNormAct, make_divisible
from convattn.models._maps import dilate, each_size, last_of_each_size
from convattn.models.mobilenet_v2 import initialise

__all__ = ["MobileNeXt", "Sandglass", "mobilenext"]

#         reduction t, output channels c, repeats n, stride s of the first
STAGES = (
    (2, 96, 1, 2),
    (6, 144, 1, 1),
    (6, 192, 3, 2),
    (6, 288, 3, 2),
    (6, 384, 4, 1),
    (6, 576, 4, 2),
    (6, 960, 3, 1),
    (6, 1280, 1, 1),
)


class Sandglass(nn.Module):
    """3x3 depthwise, 1x1 reduction, 1x1 expansion, 3x3 depthwise, sum with the input.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the last depthwise convolution.
        reduction: t, inputs over the narrow channels, which are at least a sixth of the outputs.
        whole: keep all four convolutions, without a shortcut. Else a block that changes the
            channels has no first depthwise convolution, and unless it `shrinks` no last one.
        dilation: of both depthwise convolutions.
        shrinks: whether the block's stride is 2 before any became dilation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        reduction: int,
        whole: bool = False,
        dilation: int = 1,
        shrinks: bool = False,
    ) -> None:
        super().__init__()
        narrow = inputs // reduction
        if narrow < outputs / 6:
            narrow = make_divisible(math.ceil(outputs / 6), 16)
        self.residual = inputs == outputs and stride == 1 and not whole
        first = whole or self.residual
        last = first or shrinks
        self.depthwise = (
            ConvNormAct(inputs, inputs, 3, groups=inputs, dilation=dilation)
            if first
            else nn.Identity()
        )
        self.after_depthwise = Slot("after_depthwise", inputs) if first else nn.Identity()
        self.reduce = ConvNormAct(inputs, narrow, 1, act=None)
        self.expand = ConvNormAct(narrow, outputs, 1)
        self.after_expand = Slot("after_expand", outputs)
        self.last_depthwise = (
            ConvNormAct(outputs, outputs, 3, stride, groups=outputs, act=None, dilation=dilation)
            if last
            else nn.Identity()
        )
        self.before_add = Slot("before_add", outputs)
        self.after_add = Slot("after_add", outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H/stride), ceil(W/stride))."""
        return self.shrink(x, self.widen(x))

    def widen(self, x: Tensor) -> Tensor:
        """The first part, (N, inputs, H, W) -> (N, outputs, H, W): what detectors also look at."""
        wide = self.after_depthwise(self.depthwise(x))
        return self.after_expand(self.expand(self.reduce(wide)))

    def shrink(self, x: Tensor, wide: Tensor) -> Tensor:
        """The second part, from the input and what `widen` made of it."""
        y = self.before_add(self.last_depthwise(wide))
        return self.after_add(x + y if self.residual else y)


class MobileNeXt(nn.Module):
    """MobileNeXt.

    Args:
        width_mult: factor on all widths but the last, which grows only above 1.
        num_classes: K; 0 leaves the classifier out.
        in_channels: of the image.
        dropout: probability before the classifier.
        features_only: return the last map of each size, and have no classifier.
        output_stride: 32, 16 or 8: later stages keep the map's size and dilate instead.

    Shape:
        (N, in_channels, H, W) -> logits (N, K); pooled features (N, 1280) with `num_classes=0`;
        four maps of strides 4 to 32 with `features_only`.

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "after_depthwise"  # of the first: where the map is wide, as CA's authors

    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        features_only: bool = False,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        check_number("MobileNeXt", "width_mult", width_mult)
        check_positive("MobileNeXt", "num_classes", num_classes, least=0)
        check_positive("MobileNeXt", "in_channels", in_channels)
        check_number("MobileNeXt", "dropout", dropout, "a number from 0 to 1")
        check_choice("MobileNeXt", "output_stride", output_stride, (8, 16, 32))
        divisor = 4 if width_mult == 0.1 else 8
        width = make_divisible(32 * width_mult, divisor)
        self.stem = ConvNormAct(in_channels, width, 3, 2)
        strides = [s for *_, s in STAGES]
        plan = dilate(strides, output_stride, reached=2)
        stages: list[list[Sandglass]] = []
        for (t, channels, repeats, nominal), (stride, (first, others)) in zip(
            STAGES, plan, strict=True
        ):
            outputs = make_divisible(channels * width_mult, divisor)
            if channels == 1280 and width_mult < 1:
                outputs = 1280
            whole = t == 2 or (repeats == 1 and nominal == 1)
            block = Sandglass(width, outputs, stride, t, whole, first, shrinks=nominal == 2)
            rest = [Sandglass(outputs, outputs, 1, t, False, others) for _ in range(1, repeats)]
            stages.append([block, *rest])
            width = outputs
        self.blocks = nn.Sequential(*itertools.chain(*stages))
        self.taps = last_of_each_size([n for _, _, n, _ in STAGES], strides)
        self.features_only, self.num_features = features_only, width
        self.dropout = nn.Dropout(dropout)
        classes = 0 if features_only else num_classes
        self.classifier = nn.Linear(width, classes) if classes else nn.Identity()
        number_slots(stages)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, in_channels, H, W) -> (N, num_classes), or a map of each size."""
        x = self.stem(x)
        if self.features_only:
            return each_size(self.blocks, self.taps, x)
        return self.classifier(self.dropout(self.blocks(x).mean((2, 3))))


mobilenext = MobileNeXt
