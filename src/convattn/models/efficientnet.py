"""EfficientNet-B0: inverted bottlenecks with Squeeze-and-Excitation.

Tan, Le: EfficientNet, Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019,
table 1. As in torchvision: convolutions pad symmetrically and norms have PyTorch's eps 1e-5, where
the authors' TensorFlow code pads on the right first and has 1e-3.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

from torch import Tensor, nn

from convattn.core.checks import check_choice, check_number, check_positive
from convattn.core.errors import ArgumentError
from convattn.insertion.slots import number_slots
from convattn.models._layers import ConvNormAct, InvertedBottleneck, SqueezeExcite
from convattn.models._maps import dilate, each_size, last_of_each_size

__all__ = ["EfficientNet", "efficientnet_b0"]

#         expansion t, kernel k, stride s of the first, output channels c, repeats n
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, HEAD = 32, 1280


class EfficientNet(nn.Module):
    """EfficientNet-B0.

    Its own Squeeze-and-Excitation sits at the position "se" and makes room for a block there, as
    for Coordinate Attention in the CA paper's table 5.

    Args:
        num_classes: K; 0 leaves the classifier out.
        in_channels: of the image.
        dropout: probability before the classifier.
        stochastic_depth: probability of the last block; grows from 0 with the block's number.
        features_only: return the last map of each size, and have no classifier.
        output_stride: 32, 16 or 8: later stages keep the map's size and dilate instead.

    Shape:
        (N, in_channels, H, W) -> logits (N, K); pooled features (N, 1280) with `num_classes=0`;
        five maps of strides 2 to 32 with `features_only`.

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "se"

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
        features_only: bool = False,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        check_positive("EfficientNet", "num_classes", num_classes, least=0)
        if not 0 <= stochastic_depth < 1:
            raise ArgumentError(
                f"EfficientNet: stochastic_depth must be in [0, 1), got {stochastic_depth!r}"
            )
        check_positive("EfficientNet", "in_channels", in_channels)
        check_number("EfficientNet", "dropout", dropout, "a number from 0 to 1")
        check_choice("EfficientNet", "output_stride", output_stride, (8, 16, 32))
        self.stem = ConvNormAct(in_channels, STEM, 3, 2, act=nn.SiLU)
        strides, depths = [s for _, _, s, _, _ in STAGES], [n for *_, n in STAGES]
        numbers = itertools.count()
        stages: list[list[InvertedBottleneck]] = []
        width = STEM
        for (t, kernel, _, outputs, repeats), (stride, (first, others)) in zip(
            STAGES, dilate(strides, output_stride, reached=2), strict=True
        ):
            blocks = []
            for i in range(repeats):
                # squeezed to a quarter of the block's input, not of the expanded channels
                squeeze = partial(SqueezeExcite, hidden=width // 4, act=nn.SiLU, gate=nn.Sigmoid)
                blocks.append(
                    InvertedBottleneck(
                        width,
                        t * width,
                        outputs,
                        kernel,
                        stride if i == 0 else 1,
                        nn.SiLU,
                        squeeze,
                        first if i == 0 else others,
                        drop=stochastic_depth * next(numbers) / sum(depths),
                    )
                )
                width = outputs
            stages.append(blocks)
        self.blocks = nn.Sequential(*itertools.chain(*stages))
        self.taps = last_of_each_size(depths, strides)
        self.features_only, self.num_features = features_only, HEAD
        if not features_only:
            self.head = ConvNormAct(width, HEAD, 1, act=nn.SiLU)
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Linear(HEAD, num_classes) if num_classes else nn.Identity()
        number_slots(stages)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, in_channels, H, W) -> (N, num_classes), or a map of each size."""
        x = self.stem(x)
        if self.features_only:
            return each_size(self.blocks, self.taps, x)
        x = self.head(self.blocks(x))
        return self.classifier(self.dropout(x.mean((2, 3))))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


efficientnet_b0 = EfficientNet
