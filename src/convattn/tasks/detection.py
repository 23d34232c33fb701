"""Detection and instance segmentation: torchvision's detectors, COCO's and VOC's scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.files import write_atomic
from convattn.core.protocols import LossParts
from convattn.core.seeds import derive
from convattn.data.detection import open_detection
from convattn.data.samples import DetectionData, DetectionSample
from convattn.models.dense import DETECTORS
from convattn.models.dense.sampling import draw_by_image, loss_counts
from convattn.tasks.class_table import class_table
from convattn.tasks.dense_networks import build_dense, head_tensors, rebuild_dense
from convattn.tasks.dense_pictures import draw_objects, shown
from convattn.tasks.dense_transforms import object_transform
from convattn.tasks.detection_metrics import CocoMap, VocMap
from convattn.tasks.networks import parameter_groups
from convattn.tasks.sets import TestSet, TrainSet

__all__ = ["Detection", "InstanceSegmentation"]

PHOTO_SIZE = 800  # short side, as the papers of R-CNNs and RetinaNet


class Batch(NamedTuple):
    """uint8 images (3, H, W), a target for each, indices of the samples (N,)."""

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    indices: Tensor


class Detection:
    """The detection task of a configuration on data; see `core/protocols.py`.

    Images keep their sizes; the network brings them to its own: `imgsz` is the side of SSDLite's
    input and the short side of the others' (without it 320, and the scenes' own side or 800).

    Args:
        config: of the run.
        data: its images.
        model: a trained network to evaluate; None builds a new one.
        resumed: the new one's weights will come from a checkpoint of the run.

    Attributes:
        by_class: scores of each class at the last evaluation.

    Raises:
        ArgumentError, UnknownNameError: of the model, the block or their arguments.
    """

    task = "detection"
    metric = "map"
    class_metric = "map"
    curves: tuple[str, ...] = ("map", "map50")
    masks = False
    models: tuple[str, ...] = tuple(name for name in DETECTORS if name != "mask_rcnn")

    @classmethod
    def open_data(cls, config: TrainConfig) -> DetectionData:
        """The data of a configuration, checked."""
        return open_detection(
            config.data, masks=cls.masks, on_bad=config.on_bad, **config.data_args
        )

    def __init__(
        self,
        config: TrainConfig,
        data: DetectionData,
        *,
        model: nn.Module | None = None,
        resumed: bool = False,
    ) -> None:
        self.data = data
        side = data.train.sample(0).image.shape[1] if data.format == "scenes" else PHOTO_SIZE
        size = config.imgsz or (320 if config.model == "ssdlite320" else side)
        self.facts: dict[str, Any] = {
            "task": self.task, "classes": list(data.classes), "size": size,
        }  # fmt: skip
        self.notes: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        if model is None:
            if config.model not in self.models:
                raise ArgumentError(
                    f"--task {self.task} has the models {', '.join(self.models)}; got "
                    f"--model {config.model}"
                )
            model, network, self.notes = build_dense(
                config,
                len(data.classes),
                derive(config.seed, "weights"),
                {**_size_arguments(config.model, size), **config.model_args},
                resumed=resumed,
            )
            self.facts |= network
            self.parameters = parameter_groups(model, config, partial(head_tensors, model))
        self.model = model
        self.train_set = TrainSet(data.train.sample, object_transform(config.augment), config.seed)
        self.test_set = TestSet(len(data.test), data.test.sample, _as_is)
        self.train_size = len(data.train)
        self.fingerprint = data.fingerprint
        self.by_class: dict[str, dict[str, float]] = {}
        self.evaluated = False
        self._found: dict[int, dict[str, Tensor]] = {}  # in the test images that are drawn

    @staticmethod
    def rebuild(facts: dict[str, Any]) -> nn.Module:
        """The network of these facts with random weights."""
        return rebuild_dense(facts)

    def collate(self, samples: list[tuple[Tensor, dict[str, Tensor], int]]) -> Batch:
        """Side by side; images differ in size."""
        images, targets, indices = zip(*samples, strict=True)
        return Batch(list(images), list(targets), torch.tensor(indices))

    def batch_size(self, batch: Batch) -> int:
        """N."""
        return len(batch.images)

    def sample_ids(self, batch: Batch) -> Sequence[str]:
        """Names of the training images."""
        return [self.data.train.sample_id(i) for i in batch.indices.tolist()]

    def loss(self, model: nn.Module, batch: Batch) -> LossParts:
        """The detector's own losses; SSD's and the R-CNNs' are means over the batch's boxes."""
        first, detector = _first_label(model), getattr(model, "module", model)
        draw_by_image(detector, [int(each["draw"]) for each in batch.targets])
        targets = [{**each, "labels": each["labels"] + first} for each in batch.targets]
        parts = model([image / 255 for image in batch.images], targets)
        return LossParts(parts, loss_counts(detector))

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """COCO's numbers, of masks too where there are any; on VOC data also VOC's two."""
        coco = CocoMap(self.data.classes, self.masks)
        voc = VocMap(len(self.data.classes)) if self.data.format == "voc" else None
        drawn = shown(len(self.data.test))
        self._found = {}
        for batch in batches:
            found = self.detect(model, batch.images)
            for i, each, target in zip(batch.indices.tolist(), found, batch.targets, strict=True):
                if i in drawn:
                    self._found[i] = each
                truth = {name: value.cpu() for name, value in target.items()}
                coco.update(each, truth)
                if voc is not None:
                    voc.update(each, truth)
        scores, self.by_class = coco.scores()
        if voc is not None:
            scores |= voc.scores()
            for name, value in zip(self.data.classes, voc.average_precisions(True), strict=True):
                if value is not None:
                    self.by_class.setdefault(name, {})["voc07_map"] = value
        self.evaluated = True
        return scores

    def detect(self, model: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detections in uint8 images, on the CPU; labels are indices of the classes, masks bool."""
        first = _first_label(model)
        results = []
        for each in model([image / 255 for image in images]):
            found = {name: value.float().cpu() for name, value in each.items()}
            found["labels"] = each["labels"].cpu() - first
            if "masks" in found:
                found["masks"] = found["masks"][:, 0] > 0.5
            results.append(found)
        return results

    def write_pictures(self, folder: Path) -> None:
        """`classes.csv`, the scores of each class, and `predictions.png`."""
        names = sorted({name for scores in self.by_class.values() for name in scores})
        write_atomic(folder / "classes.csv", class_table(self.by_class, names))
        samples = [self.data.test.sample(i) for i in self._found]
        picture = draw_objects(samples, [*self._found.values()], self.data.classes)
        write_atomic(folder / "predictions.png", picture)

    @classmethod
    def references(cls, data: DetectionData) -> dict[str, float]:
        """The score of the mean box of each class of the training images, in every test image.

        Where masks are scored, the box is filled.
        """
        boxes: dict[int, list[Tensor]] = {}
        for i in range(len(data.train)):
            sample = data.train.sample(i)
            height, width = sample.image.shape[1:]
            scale = torch.tensor([width, height, width, height])
            for box, label in zip(sample.boxes / scale, sample.labels.tolist(), strict=True):
                boxes.setdefault(label, []).append(box)
        labels = torch.tensor(sorted(boxes))
        means = torch.stack([torch.stack(boxes[k]).mean(0) for k in sorted(boxes)])
        counts = torch.tensor([len(boxes[k]) for k in sorted(boxes)])
        coco = CocoMap(data.classes, cls.masks)
        for i in range(len(data.test)):
            sample = data.test.sample(i)
            height, width = sample.image.shape[1:]
            scale = torch.tensor([width, height, width, height])
            guess = {"boxes": means * scale, "labels": labels, "scores": counts / counts.sum()}
            if cls.masks:
                guess["masks"] = _filled(guess["boxes"], height, width)
            coco.update(guess, _truth(sample))
        return {"mean boxes": coco.scores()[0].get(cls.metric, 0.0)}


class InstanceSegmentation(Detection):
    """Detection with masks, by Mask R-CNN; its first score is the masks' AP."""

    task = "instance"
    metric = "mask_map"
    class_metric = "mask_map"
    curves = ("mask_map", "map")
    masks = True
    models = ("mask_rcnn",)


def _as_is(sample: DetectionSample) -> tuple[Tensor, dict[str, Tensor]]:
    return sample.image, _truth(sample)


def _truth(sample: DetectionSample) -> dict[str, Tensor]:
    found = {
        "boxes": sample.boxes,
        "labels": sample.labels,
        "iscrowd": sample.crowd.long(),
        "area": sample.areas,
        "difficult": sample.difficult,
    }
    return found if sample.masks is None else {**found, "masks": sample.masks}


def _filled(boxes: Tensor, height: int, width: int) -> Tensor:
    """bool (n, height, width): the pixels whose centres lie in each box."""
    x0, y0, x1, y1 = boxes[:, :, None, None].unbind(1)
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)


def _first_label(model: nn.Module) -> int:
    """0, or 1 where a detector counts the background as class 0."""
    detector: Any = getattr(model, "module", model)
    return int(detector.first_label)


def _size_arguments(model: str, size: int) -> dict[str, Any]:
    if model == "ssdlite320":
        return {"size": size}
    return {"min_size": size, "max_size": round(size * 1333 / 800)}
