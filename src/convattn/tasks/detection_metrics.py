"""Scores of detections: COCO's twelve numbers by its tools, and VOC's mean average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convattn.core.names import require

__all__ = ["COCO_NUMBERS", "CocoMap", "VocMap"]

COCO_NUMBERS = (  # of the COCO tools' summary, in its order
    "map", "map50", "map75", "map_small", "map_medium", "map_large",
    "mar1", "mar10", "mar100", "mar_small", "mar_medium", "mar_large",
)  # fmt: skip


class CocoMap:
    """COCO's numbers, by its tools' algorithm as faster-coco-eval has it.

    torchmetrics 1.9 wraps the same, but with crowds its numbers differ from the tools' (by 0.0002
    to 0.0008 on random boxes, in a test here), so the tools are given the annotations directly.

    Args:
        classes: names.
        masks: score masks too, not boxes alone.
    """

    def __init__(self, classes: Sequence[str], masks: bool) -> None:
        self.classes, self.masks = tuple(classes), masks
        self.images: list[dict[str, int]] = []
        self.truths: list[dict[str, Any]] = []
        self.found: dict[str, list[dict[str, Any]]] = {"bbox": [], "segm": []}

    def update(self, found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> None:
        """Add an image.

        Args:
            found: boxes (n, 4), labels, scores and, if masks are scored, masks (n, H, W).
            truth: boxes, labels, iscrowd, area and perhaps masks.
        """
        height, width = truth["masks"].shape[1:] if self.masks else (0, 0)  # used with masks alone
        self.images.append({"id": len(self.images) + 1, "height": height, "width": width})
        count = len(truth["labels"])
        for k in range(count):
            note = self._note(truth, k) | {
                "id": len(self.truths) + 1,  # 0 would count as "no match"
                "area": float(truth["area"][k]),
                "iscrowd": int(truth["iscrowd"][k]),
            }
            if self.masks:
                note["segmentation"] = _encoded(truth["masks"][k])
            self.truths.append(note)
        for k in range(len(found["labels"])):
            row = self._note(found, k) | {"score": float(found["scores"][k])}
            self.found["bbox"].append(row)
            if self.masks:
                row = {key: value for key, value in row.items() if key != "bbox"}
                self.found["segm"].append(row | {"segmentation": _encoded(found["masks"][k])})

    def scores(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The numbers, and AP by class.

        Numbers that are not defined (no object of that size) are left out. Those of masks have
        names that begin with "mask_".
        """
        scores: dict[str, float] = {}
        by_class: dict[str, dict[str, float]] = {}
        for kind, prefix in (("bbox", ""), ("segm", "mask_")) if self.masks else (("bbox", ""),):
            stats, each = self._evaluate(kind)
            for name, value in zip(COCO_NUMBERS, stats, strict=True):
                if value >= 0:
                    scores[f"{prefix}{name}"] = value
            for name, value in zip(self.classes, each, strict=True):
                if value >= 0:
                    by_class.setdefault(name, {})[f"{prefix}map"] = value
        return scores, by_class

    def _note(self, source: Mapping[str, Tensor], k: int) -> dict[str, Any]:
        x0, y0, x1, y1 = source["boxes"][k].tolist()
        return {
            "image_id": len(self.images),
            "category_id": int(source["labels"][k]),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
        }

    def _nothing(self, kind: str) -> dict[str, Any]:
        """A detection without a pixel, as the tools take no empty list."""
        note = {"image_id": 1, "category_id": 0, "score": 0.0}
        if kind == "bbox":
            return note | {"bbox": [0.0] * 4}
        size = self.images[0]["height"], self.images[0]["width"]
        return note | {"segmentation": _encoded(torch.zeros(size))}

    def _evaluate(self, kind: str) -> tuple[list[float], list[float]]:
        """The twelve numbers, and AP of each class; -1 where it is not defined."""
        tools = require("faster_coco_eval", "detection")
        truths = tools.COCO()
        truths.dataset = {
            "info": {},
            "images": self.images,
            "categories": [{"id": k, "name": name} for k, name in enumerate(self.classes)],
            "annotations": self.truths,
        }
        truths.createIndex()
        if not self.truths:
            return [-1.0] * len(COCO_NUMBERS), [-1.0] * len(self.classes)
        run = tools.COCOeval_faster(
            truths,
            truths.loadRes(self.found[kind] or [self._nothing(kind)]),
            kind,
            print_function=_quiet,
        )
        run.evaluate()
        run.accumulate()
        run.summarize()
        precision = run.eval["precision"][:, :, :, 0, -1]  # overlaps, recalls, classes
        each = [
            float(own[own > -1].mean()) if (own > -1).any() else -1.0
            for own in (precision[:, :, k] for k in range(len(self.classes)))
        ]
        return [float(value) for value in run.stats[: len(COCO_NUMBERS)]], each


def _quiet(*_: object) -> None:
    """The tools would print."""


def _encoded(mask: Tensor) -> Any:
    tools = require("faster_coco_eval.core.mask", "detection")
    numpy = require("numpy", "train")
    return tools.encode(numpy.asfortranarray(mask.to(torch.uint8).numpy()))


@dataclass
class VocMap:
    """Pascal VOC's mean average precision at overlap 0.5, as the challenge's development kit.

    A detection takes the object that it overlaps most. If that overlap is 0.5 or more it is right
    the first time; a second one on the same object is wrong; one on a difficult object counts
    neither way. Classes without an object are left out of the mean.

    Attributes:
        classes: number of classes.
    """

    classes: int
    _found: list[tuple[int, Tensor]] = field(default_factory=list)  # label, (n, 2) score and right
    _objects: Tensor | None = None

    def update(self, found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> None:
        """Add an image.

        Args:
            found: boxes (n, 4), x0 y0 x1 y1, labels and scores.
            truth: boxes, labels and difficult.
        """
        boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
        true_boxes, true_labels, difficult = truth["boxes"], truth["labels"], truth["difficult"]
        overlaps = require("torchvision.ops", "train").box_iou
        counts = torch.bincount(true_labels[~difficult], minlength=self.classes)
        self._objects = counts if self._objects is None else self._objects + counts
        for label in labels.unique().tolist():
            order = torch.argsort(scores[labels == label], descending=True, stable=True)
            own, score = boxes[labels == label][order], scores[labels == label][order]
            here = true_labels == label
            objects, hard = true_boxes[here], difficult[here]
            shares = overlaps(own, objects) if len(objects) else own.new_zeros(len(own), 1)
            best, which = shares.max(1)
            taken: set[int] = set()
            rows = []
            for value, overlap, k in zip(
                score.tolist(), best.tolist(), which.tolist(), strict=True
            ):
                if overlap >= 0.5 and bool(hard[k]):
                    continue
                right = overlap >= 0.5 and k not in taken
                if right:
                    taken.add(k)
                rows.append((value, float(right)))
            if rows:
                self._found.append((label, torch.tensor(rows, dtype=torch.float64)))

    def average_precisions(self, points: bool) -> list[float | None]:
        """Of each class; None without an object.

        Args:
            points: VOC 2007's mean of the best precision at recalls 0, 0.1, ..., 1; else the area
                under the curve of the best precision at that recall or more, from VOC 2010 on.
        """
        assert self._objects is not None
        found: list[float | None] = []
        for label, count in enumerate(self._objects.tolist()):
            rows = [each for k, each in self._found if k == label]
            if not count:
                found.append(None)
            elif not rows:
                found.append(0.0)
            else:
                found.append(_average_precision(torch.cat(rows), count, points))
        return found

    def scores(self) -> dict[str, float]:
        """`voc07_map` and `voc10_map`, from 0 to 1."""
        values = {}
        for name, points in (("voc07_map", True), ("voc10_map", False)):
            each = [value for value in self.average_precisions(points) if value is not None]
            if each:
                values[name] = sum(each) / len(each)
        return values


def _average_precision(rows: Tensor, count: int, points: bool) -> float:
    order = torch.argsort(rows[:, 0], descending=True, stable=True)
    right = rows[order, 1].cumsum(0)
    recall = right / count
    precision = right / torch.arange(1, len(right) + 1)
    best = precision.flip(0).cummax(0).values.flip(0)  # at that recall or more
    if points:
        values = [best[recall >= t - 1e-12] for t in (k / 10 for k in range(11))]
        return sum(float(v[0]) if len(v) else 0.0 for v in values) / 11
    steps = recall.diff(prepend=recall.new_zeros(1))
    return float((steps * best).sum())
