"""SSDLite320 as the authors of Coordinate Attention set it up, on torchvision's SSD.

houqb/ssdlite-pytorch-mobilenext: heads, boxes and losses, for COCO and for VOC.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError
from convattn.core.names import require
from convattn.models.dense.features import Maps, measure

__all__ = ["ssdlite320"]

SIZE = 320
STRIDES = (16, 32, 64, 120, 160, 320)  # as the authors say, though the maps have 20, 10, 5, 3, 2, 1
MIN_SIZES = (45, 90, 135, 180, 225, 270)
# second square box of a map: the geometric mean of its smallest and largest size
MAX_SIZES = {"coco": (90, 135, 180, 225, 270, 315), "voc": (120, 180, 220, 260, 300, 320)}
RATIOS = {"coco": ((2, 3),) * 5 + ((2,),), "voc": ((2, 3),) * 6}
PRIOR = 0.01  # probability of an object that a class head starts from, with focal loss


def ssdlite320(
    host: nn.Module,
    num_classes: int,
    *,
    size: int = SIZE,
    boxes: Literal["coco", "voc"] = "coco",
    loss: Literal["focal", "multibox"] = "multibox",
    **arguments: Any,
) -> nn.Module:
    """SSDLite: Liu et al., SSD, ECCV 2016; Sandler et al., MobileNetV2, section 6.2.

    Args:
        host: backbone that returns six maps.
        num_classes: K; labels are 1 to K, 0 is the background.
        size: side that images are resized to. The default boxes keep their shares of it.
        boxes: the authors' default boxes for COCO or for VOC.
        loss: "multibox" (the authors' for VOC) or "focal" (theirs for COCO).
        **arguments: of torchvision's `SSD`: image_mean, image_std, score_thresh, nms_thresh, ...

    Raises:
        ArgumentError: the backbone has other maps, or an option another value.
    """
    check_choice("ssdlite320", "boxes", boxes, tuple(MAX_SIZES))
    check_choice("ssdlite320", "loss", loss, ("focal", "multibox"))
    ssd = require("torchvision.models.detection.ssd", "train")
    channels, _ = measure(host)
    if len(channels) != len(MIN_SIZES):
        raise ArgumentError(
            f"ssdlite320 needs a backbone with {len(MIN_SIZES)} maps, such as mobilenet_v2_ssd; "
            f"{type(host).__name__} has {len(channels)}"
        )
    counts = [2 + 2 * len(ratios) for ratios in RATIOS[boxes]]
    head = _Head(
        _scores(ssd, channels, counts, num_classes + 1, PRIOR if loss == "focal" else None),
        _scores(ssd, channels, counts, 4, None),
    )
    kind = _counting(ssd.SSD)
    kind = _with_focal_loss(kind) if loss == "focal" else kind
    model = kind(
        Maps(host, {str(i): i for i in range(len(channels))}),
        _default_boxes(boxes, size),
        (size, size),
        num_classes + 1,
        head=head,
        **{"detections_per_img": 100, **arguments},
    )
    model.first_label = 1
    return model


def _default_boxes(name: str, size: int) -> Any:
    base: Any = require("torchvision.models.detection.anchor_utils", "train").DefaultBoxGenerator

    class DefaultBoxes(base):
        """With a largest size for each map that is not the next map's smallest."""

        def _generate_wh_pairs(self, num_outputs: int, *types: Any) -> list[Tensor]:
            pairs = []
            for low, high, ratios in zip(MIN_SIZES, MAX_SIZES[name], RATIOS[name], strict=True):
                square = math.sqrt(low * high)
                sides = [(low, low), (square, square)]
                for ratio in map(math.sqrt, ratios):
                    sides += [(low * ratio, low / ratio), (low / ratio, low * ratio)]
                pairs.append(torch.tensor(sides) / SIZE)
            return pairs

    steps = list(STRIDES) if size == SIZE else None
    return DefaultBoxes([list(ratios) for ratios in RATIOS[name]], steps=steps)


class _Head(nn.Module):
    """Class scores and box offsets, under torchvision's names."""

    def __init__(self, classification: nn.Module, regression: nn.Module) -> None:
        super().__init__()
        self.classification_head = classification
        self.regression_head = regression

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Six maps -> logits (N, boxes, K + 1) and offsets (N, boxes, 4)."""
        return {
            "bbox_regression": self.regression_head(maps),
            "cls_logits": self.classification_head(maps),
        }


def _scores(
    ssd: Any, channels: list[int], counts: list[int], columns: int, prior: float | None
) -> nn.Module:
    """Separable heads, and a 1x1 convolution on the last map, which has one position."""
    layers: list[nn.Module] = []
    for i, (width, count) in enumerate(zip(channels, counts, strict=True), 1):
        point = nn.Conv2d(width, count * columns, 1)
        if i < len(channels):
            deep = nn.Conv2d(width, width, 3, padding=1, groups=width)  # with bias, as theirs
            layers.append(nn.Sequential(deep, nn.BatchNorm2d(width), nn.ReLU6(), point))
        else:
            layers.append(point)
    for module in nn.ModuleList(layers).modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            if prior is None:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            else:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.constant_(module.bias, -math.log((1 - prior) / prior))
    return ssd.SSDScoringHead(nn.ModuleList(layers), columns)


def _counting(base: Any) -> Any:
    """SSD that remembers how many default boxes are objects: what its losses are means over."""

    class CountingSSD(base):
        positives = 0

        def compute_loss(
            self,
            targets: list[dict[str, Tensor]],
            head_outputs: dict[str, Tensor],
            anchors: list[Tensor],
            matched_idxs: list[Tensor],
        ) -> dict[str, Tensor]:
            self.positives = sum(int((matched >= 0).sum()) for matched in matched_idxs)
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)

    return CountingSSD


def _with_focal_loss(base: Any) -> Any:
    """SSD with sigmoid scores and focal loss, weighted by 5.

    As in the authors' code, and so in their weights, column k is class k + 1, and the last column
    is no class and never positive.
    """
    ops = require("torchvision.ops", "train")

    class FocalSSD(base):
        def compute_loss(
            self,
            targets: list[dict[str, Tensor]],
            head_outputs: dict[str, Tensor],
            anchors: list[Tensor],
            matched_idxs: list[Tensor],
        ) -> dict[str, Tensor]:
            parts = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
            logits = head_outputs["cls_logits"]
            wanted = torch.zeros_like(logits)
            for image, (target, matched) in enumerate(zip(targets, matched_idxs, strict=True)):
                found = torch.where(matched >= 0)[0]
                wanted[image, found, target["labels"][matched[found]] - 1] = 1
            total = ops.sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2, reduction="sum")
            parts["classification"] = 5 * total / max(1, self.positives)
            return parts

        def postprocess_detections(
            self,
            head_outputs: dict[str, Tensor],
            image_anchors: list[Tensor],
            image_shapes: list[tuple[int, int]],
        ) -> list[dict[str, Tensor]]:
            scores = head_outputs["cls_logits"].sigmoid()
            images = zip(
                head_outputs["bbox_regression"], scores, image_anchors, image_shapes, strict=True
            )
            decode = self.box_coder.decode_single
            return [
                _select(self, ops.clip_boxes_to_image(decode(offsets, boxes), shape), score)
                for offsets, score, boxes, shape in images
            ]

    return FocalSSD


def _select(model: Any, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """The detections of an image, as torchvision selects them from other scores."""
    ops = require("torchvision.ops", "train")
    which, column = torch.where(scores[:, :-1] > model.score_thresh)
    score, label = scores[which, column], column + 1
    order = torch.argsort(score, descending=True)
    best = [order[label[order] == k][: model.topk_candidates] for k in label.unique()]
    kept = torch.cat([*best, order[:0]])
    kept = kept[ops.batched_nms(boxes[which[kept]], score[kept], label[kept], model.nms_thresh)]
    kept = kept[: model.detections_per_img]
    return {"boxes": boxes[which[kept]], "scores": score[kept], "labels": label[kept]}
