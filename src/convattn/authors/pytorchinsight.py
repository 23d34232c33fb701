"""implus/PytorchInsight: Spatial Group-wise Enhance, and its ResNets with SE, SGE and an SK."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from convattn.authors._resnet import DEPTHS, attention_last, in_blocks, resnet_builder
from convattn.authors._source import Source
from convattn.blocks.se import SE
from convattn.blocks.sge import SGE
from convattn.models.resnet import ResNet
from convattn.ops import global_mean

__all__ = ["SOURCES", "SKBottleneck"]


class SKBottleneck(nn.Module):
    """Their bottleneck with a selection of kernels, which is not the one of Selective Kernels.

    Both branches are 3x3 without dilation, the second in 32 groups, and planes / 16 channels are
    hidden without a lower bound.

    Args:
        inputs: channels of the input.
        planes: channels of the branches; the output has 4 planes.
        stride: of the branches.
        dilation: of the branches.
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
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2g = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, 32, bias=False)
        self.bn2g = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = shortcut
        self.conv_fc1 = nn.Linear(planes, planes // 16, bias=False)
        self.bn_fc1 = nn.BatchNorm1d(planes // 16)
        self.conv_fc2 = nn.Linear(planes // 16, 2 * planes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 planes, ceil(H/stride), ceil(W/stride))."""
        y = F.relu(self.bn1(self.conv1(x)))
        maps = (F.relu(self.bn2(self.conv2(y))), F.relu(self.bn2g(self.conv2g(y))))
        pooled = global_mean(maps[0]) + global_mean(maps[1])
        logits = self.conv_fc2(F.relu(self.bn_fc1(self.conv_fc1(pooled))))
        weights = logits.unflatten(1, (2, -1)).softmax(1)[..., None, None]  # (N, 2, planes, 1, 1)
        y = self.bn3(self.conv3(maps[0] * weights[:, 0] + maps[1] * weights[:, 1]))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _sge(groups: int = 64) -> SGE:
    return SGE(None, groups=groups)  # the authors' class takes any number of channels


def _as_map(key: str, tensor: Tensor) -> Tensor:
    return tensor[None, :, None, None]


def _sk_resnet(depths: tuple[int, int, int, int]) -> Callable[..., ResNet]:
    def build(num_classes: int = 1000) -> ResNet:
        return ResNet(SKBottleneck, depths, num_classes=num_classes)

    return build


def _sk_shape(key: str, tensor: Tensor) -> Tensor:
    is_conv = "conv_fc" in key and tensor.dim() == 2
    return tensor[..., None, None] if is_conv else tensor


_IMAGENET = "implus/PytorchInsight:classification/models/imagenet"
_SGE = Source((f"{_IMAGENET}/resnet_sge.py:SpatialGroupEnhance",), _sge, shape=_as_map)
_SE = Source((f"{_IMAGENET}/resnet_se.py:SELayer",), SE, keys=((r"fc1", "fc.0"), (r"fc2", "fc.2")))

SOURCES = (
    _SGE,
    *(
        Source(
            (f"{_IMAGENET}/resnet_se.py:se_resnet{depth}",),
            resnet_builder(depth, "se"),
            blocks=in_blocks("se", _SE),
        )
        for depth in DEPTHS
    ),
    *(
        Source(
            (f"{_IMAGENET}/resnet_sge.py:sge_resnet{depth}",),
            resnet_builder(depth, "sge"),
            blocks=in_blocks("sge", _SGE),
            order=attention_last,
        )
        for depth in DEPTHS
    ),
    *(
        Source((f"{_IMAGENET}/resnet_sk.py:{name}",), _sk_resnet(depths), shape=_sk_shape)
        for name, depths in (
            ("sk_resnet50", (3, 4, 6, 3)),
            ("sk_resnet101", (3, 4, 23, 3)),
            ("sk_resnet152", (3, 8, 36, 3)),
        )
    ),
)
