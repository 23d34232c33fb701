"""RetinaNet, Faster R-CNN and Mask R-CNN with a feature pyramid: torchvision's, on any backbone."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from convattn.core.checks import check_choice
from convattn.core.names import require
from convattn.models.dense.features import Pyramid, freeze_norms, freeze_stages

__all__ = ["faster_rcnn", "mask_rcnn", "retinanet"]

Norm = Literal["batch", "frozen"]


def _pyramid(host: nn.Module, first: int, top: str, norm: Norm, frozen_stages: int) -> Pyramid:
    check_choice("a detector", "norm", norm, ("batch", "frozen"))
    if norm == "frozen":
        freeze_norms(host)
    pyramid = Pyramid(host, first, top)
    freeze_stages(host, frozen_stages)
    return pyramid


def retinanet(
    host: nn.Module,
    num_classes: int,
    *,
    norm: Norm = "batch",
    frozen_stages: int = 0,
    p6: Literal["p5", "c5"] = "p5",
    **arguments: Any,
) -> nn.Module:
    """RetinaNet: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.

    Args:
        host: backbone, returns a list of maps.
        num_classes: K; labels are 0 to K - 1.
        norm: "batch", or "frozen": the backbone's batch norms stay as they are (pretrained).
        frozen_stages: stages of the backbone that are not trained; 1 is stem and first stage.
        p6: what the first extra level is made from: the pyramid's last level (torchvision), or the
            backbone's last map (the paper, MMDetection, and so ECA's table).
        **arguments: of torchvision's `RetinaNet`, such as min_size and max_size.
    """
    anchors = require("torchvision.models.detection.anchor_utils", "train")
    models = require("torchvision.models.detection.retinanet", "train")
    sizes = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    generator = anchors.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    check_choice("retinanet", "p6", p6, ("p5", "c5"))
    pyramid = _pyramid(host, 8, p6, norm, frozen_stages)
    model = models.RetinaNet(pyramid, num_classes, anchor_generator=generator, **arguments)
    model.first_label = 0
    return model


def faster_rcnn(
    host: nn.Module,
    num_classes: int,
    *,
    norm: Norm = "batch",
    frozen_stages: int = 0,
    **arguments: Any,
) -> nn.Module:
    """Faster R-CNN: Ren et al., NIPS 2015, with Lin et al.'s pyramid.

    Args:
        host: backbone, returns a list of maps.
        num_classes: K; labels are 1 to K, 0 is the background.
        norm: as of `retinanet`.
        frozen_stages: as of `retinanet`.
        **arguments: of torchvision's `FasterRCNN`, such as min_size and max_size.
    """
    models = require("torchvision.models.detection.faster_rcnn", "train")
    pyramid = _pyramid(host, 4, "pool", norm, frozen_stages)
    model = models.FasterRCNN(pyramid, num_classes + 1, **_roi(pyramid, arguments))
    model.first_label = 1
    return model


def mask_rcnn(
    host: nn.Module,
    num_classes: int,
    *,
    norm: Norm = "batch",
    frozen_stages: int = 0,
    **arguments: Any,
) -> nn.Module:
    """Mask R-CNN: He et al., ICCV 2017. Arguments as of `faster_rcnn`."""
    models = require("torchvision.models.detection.mask_rcnn", "train")
    pyramid = _pyramid(host, 4, "pool", norm, frozen_stages)
    pool = _pool(pyramid, 14)
    model = models.MaskRCNN(
        pyramid, num_classes + 1, **{"mask_roi_pool": pool, **_roi(pyramid, arguments)}
    )
    model.first_label = 1
    return model


def _roi(pyramid: Pyramid, arguments: dict[str, Any]) -> dict[str, Any]:
    """Pooling and anchors for the pyramid's names of levels: torchvision expects '0', '1', ..."""
    anchors = require("torchvision.models.detection.anchor_utils", "train")
    levels = len(pyramid.body.chosen) + 1
    sizes = tuple((32 * 2**k,) for k in range(levels))
    generator = anchors.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * levels)
    return {
        "rpn_anchor_generator": generator,
        "box_roi_pool": _pool(pyramid, 7),
        **arguments,
    }


def _pool(pyramid: Pyramid, size: int) -> nn.Module:
    pool = require("torchvision.ops", "train").MultiScaleRoIAlign
    return pool(list(pyramid.body.chosen), output_size=size, sampling_ratio=2)
