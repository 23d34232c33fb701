"""RetinaNet, Faster R-CNN and Mask R-CNN with a feature pyramid: torchvision's, on any backbone."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from convattn.core.checks import check_choice, check_positive
from convattn.core.names import require
from convattn.models.dense.features import Pyramid, freeze_norms, freeze_stages, hold_norms
from convattn.models.dense.sampling import sample_by_image

__all__ = ["faster_rcnn", "mask_rcnn", "retinanet"]

Norm = Literal["batch", "eval", "frozen"]


def _pyramid(
    host: nn.Module, first: int, top: str, norm: Norm, frozen_stages: int, width: int
) -> Pyramid:
    check_choice("a detector", "norm", norm, ("batch", "eval", "frozen"))
    check_positive("a detector", "width", width)
    if norm == "frozen":
        freeze_norms(host)
    elif norm == "eval":
        hold_norms(host)
    pyramid = Pyramid(host, first, top, width)
    freeze_stages(host, frozen_stages)
    return pyramid


def retinanet(
    host: nn.Module,
    num_classes: int,
    *,
    norm: Norm = "batch",
    frozen_stages: int = 0,
    p6: Literal["p5", "c5"] = "p5",
    width: int = 256,
    **arguments: Any,
) -> nn.Module:
    """RetinaNet: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.

    Args:
        host: backbone, returns a list of maps.
        num_classes: K; labels are 0 to K - 1.
        norm: "batch"; "eval": the backbone's batch norms keep their statistics (pretrained), and
            their scales and shifts are trained, as in MMDetection; "frozen": they stay as they are.
        frozen_stages: stages of the backbone that are not trained; 1 is stem and first stage.
        p6: what the first extra level is made from: the pyramid's last level (torchvision), or the
            backbone's last map (the paper, MMDetection, and so ECA's table).
        width: channels of pyramid and heads, a multiple of 32; the papers' is 256.
        **arguments: of torchvision's `RetinaNet`, such as min_size and max_size.
    """
    anchors = require("torchvision.models.detection.anchor_utils", "train")
    models = require("torchvision.models.detection.retinanet", "train")
    sizes = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    generator = anchors.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    check_choice("retinanet", "p6", p6, ("p5", "c5"))
    pyramid = _pyramid(host, 8, p6, norm, frozen_stages, width)
    model = models.RetinaNet(pyramid, num_classes, anchor_generator=generator, **arguments)
    model.first_label = 0
    return model


def faster_rcnn(
    host: nn.Module,
    num_classes: int,
    *,
    norm: Norm = "batch",
    frozen_stages: int = 0,
    width: int = 256,
    **arguments: Any,
) -> nn.Module:
    """Faster R-CNN: Ren et al., NIPS 2015, with Lin et al.'s pyramid.

    Args:
        host: backbone, returns a list of maps.
        num_classes: K; labels are 1 to K, 0 is the background.
        norm: as of `retinanet`.
        frozen_stages: as of `retinanet`.
        width: channels of the pyramid and of the masks' head, a quarter of the boxes' head; the
            papers' is 256.
        **arguments: of torchvision's `FasterRCNN`, such as min_size and max_size.
    """
    models = require("torchvision.models.detection.faster_rcnn", "train")
    pyramid = _pyramid(host, 4, "pool", norm, frozen_stages, width)
    model = models.FasterRCNN(pyramid, **{**_roi(pyramid, num_classes), **arguments})
    model.first_label = 1
    return sample_by_image(model)


def mask_rcnn(
    host: nn.Module,
    num_classes: int,
    *,
    norm: Norm = "batch",
    frozen_stages: int = 0,
    width: int = 256,
    **arguments: Any,
) -> nn.Module:
    """Mask R-CNN: He et al., ICCV 2017. Arguments as of `faster_rcnn`."""
    models = require("torchvision.models.detection.mask_rcnn", "train")
    pyramid = _pyramid(host, 4, "pool", norm, frozen_stages, width)
    heads = {
        "mask_roi_pool": _pool(pyramid, 14),
        "mask_head": models.MaskRCNNHeads(width, (width,) * 4, 1),
        "mask_predictor": models.MaskRCNNPredictor(width, width, num_classes + 1),
    }
    model = models.MaskRCNN(pyramid, **{**_roi(pyramid, num_classes), **heads, **arguments})
    model.first_label = 1
    return sample_by_image(model)


def _roi(pyramid: Pyramid, num_classes: int) -> dict[str, Any]:
    """Anchors, pooling by the pyramid's names of levels (torchvision has others), boxes' head."""
    anchors = require("torchvision.models.detection.anchor_utils", "train")
    models = require("torchvision.models.detection.faster_rcnn", "train")
    levels, width = len(pyramid.body.chosen) + 1, pyramid.out_channels
    sizes = tuple((32 * 2**k,) for k in range(levels))
    return {
        "rpn_anchor_generator": anchors.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * levels),
        "box_roi_pool": _pool(pyramid, 7),
        "box_head": models.TwoMLPHead(width * 7 * 7, 4 * width),
        "box_predictor": models.FastRCNNPredictor(4 * width, num_classes + 1),
    }


def _pool(pyramid: Pyramid, size: int) -> nn.Module:
    pool = require("torchvision.ops", "train").MultiScaleRoIAlign
    return pool(list(pyramid.body.chosen), output_size=size, sampling_ratio=2)
