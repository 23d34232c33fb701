"""MCG-NKU/SCNet: the self-calibrated convolution, its residual block and networks."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.authors._source import Source
from convattn.blocks.scconv import SCConv
from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError
from convattn.models.resnet import ResNet

__all__ = ["SOURCES", "SCBottleneck"]


class SCBottleneck(nn.Module):
    """The residual block of SCNet: half of the hidden channels plain, half self-calibrated.

    Args:
        channels: of the input.
        planes: the block has 4 * planes channels at its end.
        stride: of both halves.
        width: hidden channels of each half.
        dilation: of the 3x3 convolutions.
        groups: of the 3x3 convolutions.
        shortcut: applied to the input where its shape is not the output's.
    """

    expansion = 4

    def __init__(
        self,
        channels: int,
        planes: int,
        stride: int = 1,
        *,
        width: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        width = planes // 2 if width is None else width
        for name, value in (("channels", channels), ("planes", planes), ("width", width)):
            check_positive("SCBottleneck", name, value)
        self.conv1_a = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1_a = nn.BatchNorm2d(width)
        self.conv1_b = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1_b = nn.BatchNorm2d(width)
        self.k1 = nn.Sequential(
            nn.Conv2d(width, width, 3, stride, dilation, dilation, groups=groups, bias=False),
            nn.BatchNorm2d(width),
        )
        self.scconv = SCConv(width, stride=stride, dilation=dilation, groups=groups)
        self.conv3 = nn.Conv2d(2 * width, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, 4 planes, H', W')."""
        plain = F.relu(self.k1(F.relu(self.bn1_a(self.conv1_a(x)))))
        calibrated = F.relu(self.scconv(F.relu(self.bn1_b(self.conv1_b(x)))))
        y = self.bn3(self.conv3(torch.cat((plain, calibrated), 1)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def _scconv(
    inplanes: int,
    planes: int,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    pooling_r: int,
    norm_layer: object = nn.BatchNorm2d,
) -> SCConv:
    if inplanes != planes or padding != dilation:  # their sums and products do not fit otherwise
        raise ArgumentError(
            "SCConv needs planes == inplanes and padding == dilation, got "
            f"inplanes={inplanes}, planes={planes}, padding={padding}, dilation={dilation}"
        )
    _check_norm(norm_layer)
    return SCConv(inplanes, stride=stride, pooling=pooling_r, dilation=dilation, groups=groups)


def _bottleneck(
    inplanes: int,
    planes: int,
    stride: int = 1,
    downsample: nn.Module | None = None,
    cardinality: int = 1,
    bottleneck_width: int = 32,
    dilation: int = 1,
    norm_layer: object = nn.BatchNorm2d,
) -> SCBottleneck:
    _check_norm(norm_layer)
    return SCBottleneck(
        inplanes,
        planes,
        stride,
        width=int(planes * bottleneck_width / 64) * cardinality,
        dilation=dilation,
        groups=cardinality,
        shortcut=downsample,
    )


def _scnet(depths: tuple[int, int, int, int]) -> Callable[..., ResNet]:
    def build(num_classes: int = 1000) -> ResNet:
        return ResNet(SCBottleneck, depths, num_classes=num_classes)

    return build


def _check_norm(norm_layer: object) -> None:
    if norm_layer not in (None, nn.BatchNorm2d, "nn.BatchNorm2d"):
        raise ArgumentError(f"norm_layer must be nn.BatchNorm2d, got {norm_layer!r}")


_REPOSITORY = "MCG-NKU/SCNet:scnet.py"


def _behind_pool(match: re.Match[str]) -> str:
    return f"{match[1]}k2.{int(match[2]) + 1}"  # their first layer of k2 is the pooling


SOURCES = (
    Source((f"{_REPOSITORY}:SCConv",), _scconv, keys=((r"()k2\.([01])", _behind_pool),)),
    Source(
        (f"{_REPOSITORY}:SCBottleneck",),
        _bottleneck,
        keys=((r"(scconv\.)k2\.([01])", _behind_pool), (r"shortcut", "downsample")),
    ),
    *(
        Source(
            (f"{_REPOSITORY}:{name}",),
            _scnet(depths),
            keys=(
                (r"(layer\d\.\d+\.scconv\.)k2\.([01])", _behind_pool),
                (r"(layer\d\.\d+\.)shortcut", r"\1downsample"),
            ),
        )
        for name, depths in (("scnet50", (3, 4, 6, 3)), ("scnet101", (3, 4, 23, 3)))
    ),
)
