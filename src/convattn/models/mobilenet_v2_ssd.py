"""MobileNetV2 with four more blocks: the six maps of SSDLite320.

Sandler et al.: MobileNetV2, CVPR 2018, section 6.2, as in houqb/ssdlite-pytorch-mobilenext
`ssd/modeling/backbone`. The heads that detect are not here.
"""

from __future__ import annotations

from torch import Tensor, nn

from convattn.core.errors import ArgumentError
from convattn.insertion.slots import number_slots
from convattn.models.mobilenet_v2 import STAGES, InvertedResidual, MobileNetV2, initialise

__all__ = ["MobileNetV2SSD", "mobilenet_v2_ssd"]

EXTRAS = (512, 256, 256, 64)  # output channels, each at stride 2


class MobileNetV2SSD(nn.Module):
    """Backbone of SSDLite.

    Args:
        width_mult: of MobileNetV2; its last width and the extra blocks' stay.
        in_channels: of the image.
        expansions: of the four extra blocks; with attention the authors have
            (0.2, 0.25, 0.5, 0.25).

    Shape:
        (N, in_channels, H, W) -> six maps of 96, 1280, 512, 256, 256 and 64 channels, strides 16,
        32 and then a half of the sides each, rounded up: 20, 10, 5, 3, 2, 1 for 320x320.

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "after_depthwise"

    def __init__(
        self,
        *,
        width_mult: float = 1.0,
        in_channels: int = 3,
        expansions: tuple[float, float, float, float] = (0.2, 0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if len(expansions) != len(EXTRAS) or any(e <= 0 for e in expansions):
            raise ArgumentError(
                f"MobileNetV2SSD: expansions must be 4 positive numbers, got {expansions!r}"
            )
        net = MobileNetV2(width_mult=width_mult, in_channels=in_channels, num_classes=0)
        self.stem, self.blocks, self.head = net.stem, net.blocks, net.head
        width = self.head.conv.out_channels
        extras = []
        for outputs, expansion in zip(EXTRAS, expansions, strict=True):
            extras.append(InvertedResidual(width, outputs, 2, expansion))
            width = outputs
        self.extras = nn.ModuleList(extras)
        self.extras.apply(initialise)
        number_slots([extras], first=len(STAGES) + 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> six maps."""
        x = self.blocks[:13](self.stem(x))
        maps = [x, self.head(self.blocks[13:](x))]
        for block in self.extras:
            maps.append(block(maps[-1]))
        return maps


mobilenet_v2_ssd = MobileNetV2SSD
