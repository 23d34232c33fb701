"""DeepLabV3 and LR-ASPP: torchvision's, on any backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError
from convattn.core.names import require
from convattn.models.dense.features import Maps, measure

__all__ = ["deeplabv3", "lraspp"]

RATES = (6, 12, 18)  # of output stride 16; the paper doubles them at 8


def deeplabv3(
    host: nn.Module,
    num_classes: int,
    *,
    rates: Sequence[int] | None = None,
    aux: bool = False,
    separable: bool = False,
    head: Literal["torchvision", "tensorflow"] = "torchvision",
) -> nn.Module:
    """DeepLabV3: Chen et al., Rethinking Atrous Convolution, 2017 (arXiv 1706.05587).

    Args:
        host: backbone, returns a list of maps; its output stride is that of the last.
        num_classes: K, with the background where there is one.
        rates: of the dilated convolutions; None takes (6, 12, 18) at output stride 16 or more,
            twice that at 8. torchvision's networks have (12, 24, 36); the authors' mobile network
            has none, (), only image pooling and the 1x1 convolution.
        aux: a second head on the map of the stage before the last, for training.
        separable: 3x3 convolutions of the head as depthwise and 1x1, each with norm and ReLU.
        head: "torchvision", which has one more 3x3 convolution before the classifier; or
            "tensorflow", as the paper and its authors' code (tensorflow/models,
            research/deeplab/model.py): the classifier follows the joined branches, of which image
            pooling is the first, dropout is 0.1, and corners are aligned in resizing.

    Shape:
        (N, 3, H, W) -> {"out": (N, K, H, W)}, and "aux" of the same shape.

    Raises:
        ArgumentError: a value out of range.
    """
    channels, strides = measure(host)
    if rates is None:
        rates = RATES if strides[-1] > 8 else tuple(2 * rate for rate in RATES)
    if any(not isinstance(r, int) or r < 1 for r in rates):
        raise ArgumentError(f"deeplabv3: rates must be integers of at least 1, got {rates!r}")
    check_choice("deeplabv3", "head", head, ("torchvision", "tensorflow"))
    models = require("torchvision.models.segmentation.deeplabv3", "train")
    fcn = require("torchvision.models.segmentation.fcn", "train")
    if head == "torchvision":
        kind, classifier = models.DeepLabV3, models.DeepLabHead
    else:
        kind, classifier = _with_aligned_corners(models.DeepLabV3), _Head
    own = classifier(channels[-1], num_classes, tuple(rates))
    if separable:
        _separate(own)
    chosen = {"out": len(channels) - 1} | ({"aux": len(channels) - 2} if aux else {})
    second = fcn.FCNHead(channels[-2], num_classes) if aux else None
    return kind(Maps(host, chosen), own, second)


def lraspp(host: nn.Module, num_classes: int, *, inter_channels: int = 128) -> nn.Module:
    """Lite reduced ASPP: Howard et al., Searching for MobileNetV3, ICCV 2019, section 6.4.

    Args:
        host: backbone, returns a list of maps; the last of stride 8 and the very last are used.
        num_classes: K, with the background where there is one.
        inter_channels: between.

    Shape:
        (N, 3, H, W) -> {"out": (N, K, H, W)}.

    Raises:
        ArgumentError: the backbone has no map of stride 8.
    """
    channels, strides = measure(host)
    if 8 not in strides[:-1]:
        raise ArgumentError(
            f"lraspp needs a map of stride 8 before the last; {type(host).__name__} has maps of "
            f"strides {strides}"
        )
    low = max(i for i, stride in enumerate(strides[:-1]) if stride == 8)
    model = require("torchvision.models.segmentation.lraspp", "train").LRASPP
    high = len(channels) - 1
    return model(
        Maps(host, {"low": low, "high": high}),
        channels[low],
        channels[high],
        num_classes,
        inter_channels,
    )


class _Head(nn.Module):
    """torchvision's branches in the authors' order, with the classifier right behind them."""

    def __init__(self, width: int, num_classes: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        models = require("torchvision.models.segmentation.deeplabv3", "train")
        joined = models.ASPP(width, rates)
        *convolutions, pooling = joined.convs
        self.branches = nn.ModuleList([pooling, *convolutions])
        self.project = joined.project
        self.project[-1].p = 0.1
        self.logits = nn.Conv2d(self.project[0].out_channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, K, H, W)."""
        return self.logits(self.project(torch.cat([branch(x) for branch in self.branches], 1)))


def _with_aligned_corners(base: Any) -> Any:
    class DeepLabV3(base):
        """Resizes so that the corner pixels' centres meet: exact for maps of 16 n + 1 pixels."""

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            maps = self.backbone(x)
            found = {"out": self.classifier(maps["out"])}
            if self.aux_classifier is not None:
                found["aux"] = self.aux_classifier(maps["aux"])
            return {
                name: F.interpolate(each, x.shape[-2:], mode="bilinear", align_corners=True)
                for name, each in found.items()
            }

    return DeepLabV3


def _separate(module: nn.Module) -> None:
    """Replace each 3x3 convolution below a module by a depthwise and a 1x1 one."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):
            setattr(module, name, _Separable(child))
        else:
            _separate(child)


class _Separable(nn.Module):
    """3x3 depthwise, norm, ReLU, 1x1; norm and ReLU behind it are the host's."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        width = conv.in_channels
        rate = conv.dilation[0]  # and padding, so that the map keeps its size
        self.depthwise = nn.Conv2d(width, width, 3, 1, rate, rate, width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.point = nn.Conv2d(width, conv.out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return self.point(self.act(self.norm(self.depthwise(x))))
