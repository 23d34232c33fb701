"""MobileNetV3-Large and -Small: searched inverted bottlenecks, some with Squeeze-and-Excitation.

Howard et al.: Searching for MobileNetV3, ICCV 2019, tables 1 and 2. The squeezed channels are a
quarter of the expanded, rounded to 8. The three PyTorch codes with published weights differ in what
the paper leaves open; `variant` says whose network it is.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from convattn.core.checks import check_choice, check_number, check_positive
from convattn.insertion.slots import number_slots
from convattn.models._layers import (
    ConvNormAct,
    InvertedBottleneck,
    SqueezeExcite,
    make_divisible,
)
from convattn.models._maps import dilate, each_size, last_of_each_size

__all__ = ["MobileNetV3", "mobilenet_v3_large", "mobilenet_v3_small"]

# kernel, expanded channels, output channels, Squeeze-and-Excitation, activation, stride
Row = tuple[int, int, int, bool, str, int]
LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hswish", 2),
    (3, 200, 80, False, "hswish", 1),
    (3, 184, 80, False, "hswish", 1),
    (3, 184, 80, False, "hswish", 1),
    (3, 480, 112, True, "hswish", 1),
    (3, 672, 112, True, "hswish", 1),
    (5, 672, 160, True, "hswish", 2),
    (5, 960, 160, True, "hswish", 1),
    (5, 960, 160, True, "hswish", 1),
)
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hswish", 2),
    (5, 240, 40, True, "hswish", 1),
    (5, 240, 40, True, "hswish", 1),
    (5, 120, 48, True, "hswish", 1),
    (5, 144, 48, True, "hswish", 1),
    (5, 288, 96, True, "hswish", 2),
    (5, 576, 96, True, "hswish", 1),
    (5, 576, 96, True, "hswish", 1),
)
VARIANTS = ("torchvision", "d_li14", "timm")
_hswish = partial(nn.Hardswish, inplace=True)


class MobileNetV3(nn.Module):
    """MobileNetV3.

    Its own Squeeze-and-Excitation sits at the position "se" and makes room for a block there.

    Args:
        rows: of the table.
        last: hidden channels of the classifier.
        width_mult: factor on the widths.
        variant: "torchvision": norms have eps 1e-3 and momentum 0.01, and a width scales the
            expanded channels and the classifier's too. "d_li14" (d-li14/mobilenetv3.pytorch): eps
            1e-5 and momentum 0.1, channels expand the scaled input by the table's ratio, the
            classifier's hidden channels grow only above width 1, and expanded maps are activated
            behind the Squeeze-and-Excitation. "timm": as d_li14, but activated before it, the
            hidden channels stay, and below width 0.75 the stem's do.
        num_classes: K; 0 leaves the last layer out.
        in_channels: of the image.
        dropout: probability before the last layer.
        features_only: return the last map of each size, and have no classifier.
        output_stride: 32, 16 or 8: later stages keep the map's size and dilate instead.

    Shape:
        (N, in_channels, H, W) -> logits (N, K); features (N, last) with `num_classes=0`; with
        `features_only` five maps of strides 2 to 32 (Large), or four of 4 to 32 (Small).

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "se"

    def __init__(
        self,
        rows: tuple[Row, ...],
        last: int,
        *,
        width_mult: float = 1.0,
        variant: str = "torchvision",
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        features_only: bool = False,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        check_number("MobileNetV3", "width_mult", width_mult)
        check_positive("MobileNetV3", "num_classes", num_classes, least=0)
        check_positive("MobileNetV3", "in_channels", in_channels)
        check_number("MobileNetV3", "dropout", dropout, "a number from 0 to 1")
        check_choice("MobileNetV3", "output_stride", output_stride, (8, 16, 32))
        check_choice("MobileNetV3", "variant", variant, VARIANTS)
        scaled = variant == "torchvision"
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01) if scaled else nn.BatchNorm2d
        width = 16 if variant == "timm" and width_mult < 0.75 else make_divisible(16 * width_mult)
        self.stem = ConvNormAct(in_channels, width, 3, 2, act=_hswish, norm=norm)
        strides = [stride for *_, stride in rows]
        plan = dilate(strides, output_stride, reached=2)
        blocks: list[InvertedBottleneck] = []
        nominal = 16  # the width before each row, unscaled
        for (kernel, wide, outputs, squeezes, act, _), (stride, (dilation, _)) in zip(
            rows, plan, strict=True
        ):
            ratio = round(wide / nominal, 2)  # as printed in their tables: 3.67 for 88 / 24
            nominal = outputs
            wide = make_divisible(wide * width_mult if scaled else width * ratio)
            outputs = make_divisible(outputs * width_mult)
            squeeze = partial(
                SqueezeExcite, hidden=make_divisible(wide // 4), act=nn.ReLU, gate=nn.Hardsigmoid
            )
            activation = _hswish if act == "hswish" else partial(nn.ReLU, inplace=True)
            blocks.append(
                InvertedBottleneck(
                    width,
                    wide,
                    outputs,
                    kernel,
                    stride,
                    activation,
                    squeeze if squeezes else None,
                    dilation,
                    norm,
                    act_last=variant == "d_li14" and wide != width,
                )
            )
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.taps = last_of_each_size([1] * len(rows), strides)
        grows = scaled or (variant == "d_li14" and width_mult > 1)
        hidden = make_divisible(last * width_mult) if grows else last
        self.features_only, self.num_features = features_only, hidden
        if not features_only:
            self.head = ConvNormAct(width, 6 * width, 1, act=_hswish, norm=norm)
            self.hidden = nn.Linear(6 * width, hidden)
            self.act = nn.Hardswish()
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Linear(hidden, num_classes) if num_classes else nn.Identity()
        number_slots(blocks[a:b] for a, b in _stages(self.taps))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, in_channels, H, W) -> (N, num_classes), or a map of each size."""
        x = self.stem(x)
        if self.features_only:
            return each_size(self.blocks, self.taps, x)
        x = self.head(self.blocks(x)).mean((2, 3))
        return self.classifier(self.dropout(self.act(self.hidden(x))))


def _stages(taps: list[int]) -> list[tuple[int, int]]:
    """Slices of the blocks with maps of one size."""
    ends = [tap + 1 for tap in taps]
    return list(zip([0, *ends], ends, strict=False))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


mobilenet_v3_large = partial(MobileNetV3, LARGE, 1280)
mobilenet_v3_small = partial(MobileNetV3, SMALL, 1024)
