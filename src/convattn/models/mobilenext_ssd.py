"""MobileNeXt with four more blocks: the six maps of SSDLite320.

As in houqb/ssdlite-pytorch-mobilenext `ssd/modeling/backbone/mobilenext.py`. The heads that detect
are not here.
"""

from __future__ import annotations

from torch import Tensor, nn

from convattn.insertion.slots import Slot, number_slots
from convattn.models._layers import ConvNormAct
from convattn.models.mobilenet_v2 import initialise
from convattn.models.mobilenext import STAGES, MobileNeXt, Sandglass

__all__ = ["MobileNeXtSSD", "mobilenext_ssd"]

#        output channels, narrow channels as a share of the input's
EXTRAS = ((512, 0.2), (256, 0.25), (256, 0.5), (128, 0.5))
TAPS = (12, 19)  # blocks whose wide map is looked at: the one that shrinks to stride 32, the last


class ExtraSandglass(nn.Module):
    """3x3 depthwise of stride 2, 1x1 reduction, 1x1 expansion."""

    def __init__(self, inputs: int, outputs: int, share: float) -> None:
        super().__init__()
        narrow = int(inputs * share)
        self.depthwise = ConvNormAct(inputs, inputs, 3, 2, groups=inputs)
        self.after_depthwise = Slot("after_depthwise", inputs)
        self.reduce = ConvNormAct(inputs, narrow, 1, act=None)
        self.expand = ConvNormAct(narrow, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H/2), ceil(W/2))."""
        return self.expand(self.reduce(self.after_depthwise(self.depthwise(x))))


class MobileNeXtSSD(nn.Module):
    """Backbone of SSDLite.

    Args:
        width_mult: of MobileNeXt; the extra blocks' widths stay.
        in_channels: of the image.

    Shape:
        (N, in_channels, H, W) -> six maps of 576, 1280, 512, 256, 256 and 128 channels, strides
        16, 32 and then a half of the sides each, rounded up: 20, 10, 5, 3, 2, 1 for 320x320.

    Raises:
        ArgumentError: a value out of range.
    """

    default_position = "after_depthwise"

    def __init__(self, *, width_mult: float = 1.0, in_channels: int = 3) -> None:
        super().__init__()
        net = MobileNeXt(width_mult=width_mult, in_channels=in_channels, num_classes=0)
        self.stem, self.blocks = net.stem, net.blocks
        width = net.num_features
        extras = []
        for outputs, share in EXTRAS:
            extras.append(ExtraSandglass(width, outputs, share))
            width = outputs
        self.extras = nn.ModuleList(extras)
        self.extras.apply(initialise)
        number_slots([extras], first=len(STAGES) + 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> six maps."""
        x = self.stem(x)
        maps = []
        for i, block in enumerate(self.blocks):
            if i in TAPS and isinstance(block, Sandglass):
                wide = block.widen(x)
                maps.append(wide)
                x = block.shrink(x, wide)
            else:
                x = block(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        return maps


mobilenext_ssd = MobileNeXtSSD
