"""Semantic segmentation: cross entropy of each pixel, mean intersection over union."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.files import write_atomic
from convattn.core.seeds import derive
from convattn.data.samples import IGNORED, SegmentationData, SegmentationSample
from convattn.data.segmentation import open_segmentation
from convattn.models.dense import SEGMENTERS
from convattn.tasks.class_table import class_table
from convattn.tasks.dense_networks import build_dense, head_tensors, rebuild_dense
from convattn.tasks.dense_pictures import draw_label_maps, shown
from convattn.tasks.dense_transforms import map_transform
from convattn.tasks.networks import parameter_groups
from convattn.tasks.sets import TestSet, TrainSet
from convattn.tasks.transforms import normalise

__all__ = ["Segmentation", "ious"]

PHOTO_SIZE = 480
AUX_WEIGHT = 0.4  # as in the authors' segmentation code (houqb/SPNet)


class Batch(NamedTuple):
    """uint8 images (3, H, W) and label maps (H, W), indices of the samples (N,).

    Images of one size are stacked: (N, 3, H, W) and (N, H, W).
    """

    images: Tensor | list[Tensor]
    masks: Tensor | list[Tensor]
    indices: Tensor


class Segmentation:
    """The segmentation task of a configuration on data; see `core/protocols.py`.

    Training images are crops of `imgsz` (the scenes' own side; 480 for photographs), test images
    are taken whole, one at a time where they differ in size.

    Args:
        config: of the run.
        data: its images.
        model: a trained network to evaluate; None builds a new one.
        resumed: the new one's weights will come from a checkpoint of the run.

    Attributes:
        confusion: int64 (K, K) of the last evaluation, in pixels; row = class, column = prediction.

    Raises:
        ArgumentError, UnknownNameError: of the model, the block or their arguments.
    """

    metric = "miou"
    curves = ("miou", "pixel_accuracy")
    class_metric = "iou"

    @staticmethod
    def open_data(config: TrainConfig) -> SegmentationData:
        """The data of a configuration, checked."""
        return open_segmentation(config.data, on_bad=config.on_bad, **config.data_args)

    def __init__(
        self,
        config: TrainConfig,
        data: SegmentationData,
        *,
        model: nn.Module | None = None,
        resumed: bool = False,
    ) -> None:
        self.data = data
        side = data.train.sample(0).image.shape[1] if data.format == "scenes" else PHOTO_SIZE
        size = config.imgsz or side
        self.facts: dict[str, Any] = {
            "task": "segmentation", "classes": list(data.classes), "size": size,
        }  # fmt: skip
        self.notes: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        if model is None:
            if config.model not in SEGMENTERS:
                raise ArgumentError(
                    f"--task segmentation has the models {', '.join(SEGMENTERS)}; got "
                    f"--model {config.model}"
                )
            model, network, self.notes = build_dense(
                config,
                len(data.classes),
                derive(config.seed, "weights"),
                dict(config.model_args),
                resumed=resumed,
            )
            self.facts |= network
            self.parameters = parameter_groups(model, config, partial(head_tensors, model))
        self.model = model
        self.train_set = TrainSet(
            data.train.sample, map_transform(config.augment, size), config.seed
        )
        self.test_set = TestSet(len(data.test), data.test.sample, _as_is)
        self.train_size = len(data.train)
        self.fingerprint = data.fingerprint
        self.confusion = torch.zeros(len(data.classes), len(data.classes), dtype=torch.int64)
        self._found: dict[int, Tensor] = {}  # label maps of the test images that are drawn
        self._channels_last = config.channels_last

    @staticmethod
    def rebuild(facts: dict[str, Any]) -> nn.Module:
        """The network of these facts with random weights."""
        return rebuild_dense(facts)

    @property
    def evaluated(self) -> bool:
        """Whether there is a confusion matrix."""
        return bool(self.confusion.any())

    @property
    def by_class(self) -> dict[str, dict[str, float]]:
        """IoU, recall and precision of each class, without those that are not defined."""
        right = self.confusion.diagonal().double()
        scores = {
            "iou": ious(self.confusion),
            "recall": right / self.confusion.sum(1),
            "precision": right / self.confusion.sum(0),
        }
        return {
            label: {name: float(each[k]) for name, each in scores.items() if not each[k].isnan()}
            for k, label in enumerate(self.data.classes)
        }

    def collate(self, samples: list[tuple[Tensor, Tensor, int]]) -> Batch:
        """Stack the samples if they have one size."""
        images, masks, indices = zip(*samples, strict=True)
        if len({image.shape for image in images}) == 1:
            return Batch(torch.stack(images), torch.stack(masks), torch.tensor(indices))
        return Batch(list(images), list(masks), torch.tensor(indices))

    def batch_size(self, batch: Batch) -> int:
        """N."""
        return len(batch.indices)

    def sample_ids(self, batch: Batch) -> Sequence[str]:
        """Names of the training images."""
        return [self.data.train.sample_id(i) for i in batch.indices.tolist()]

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy, a mean over each image's pixels and then over images.

        So an image counts the same in any batch, piece or process. The auxiliary head, if the
        network has one, counts 0.4.
        """
        assert isinstance(batch.masks, Tensor)
        assert isinstance(batch.images, Tensor)
        found = model(self._images(batch.images))
        losses = {"pixel": _cross_entropy(found["out"], batch.masks)}
        if "aux" in found:
            losses["aux"] = AUX_WEIGHT * _cross_entropy(found["aux"], batch.masks)
        return losses

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Loss, mean IoU and the share of right pixels; ignored pixels count nowhere."""
        count = len(self.data.classes)
        confusion = torch.zeros_like(self.confusion)
        loss, total = 0.0, 0
        drawn = shown(len(self.data.test))
        kept: dict[int, Tensor] = {}
        for batch in batches:
            for images, masks, indices in _alike(batch):
                logits = model(self._images(images))["out"].float()
                loss += float(_cross_entropy(logits, masks)) * len(masks)
                total += len(masks)
                valid = masks != IGNORED
                found = logits.argmax(1)
                for i, each in zip(indices.tolist(), found, strict=True):
                    if i in drawn:
                        kept[i] = each.to("cpu", torch.uint8)
                pairs = masks[valid].long() * count + found[valid]
                confusion += torch.bincount(pairs, minlength=count * count).view(count, count).cpu()
        self.confusion, self._found = confusion, kept
        scores = ious(confusion)
        return {
            "loss": loss / total,
            "miou": float(scores[~scores.isnan()].mean()),
            "pixel_accuracy": float(confusion.diagonal().sum() / confusion.sum()),
        }

    def write_pictures(self, folder: Path) -> None:
        """`classes.csv`, the score of each class, and `predictions.png`."""
        pixels = self.confusion.sum(1).tolist()
        rows = {
            label: {**scores, "pixels": count}
            for (label, scores), count in zip(self.by_class.items(), pixels, strict=True)
        }
        table = class_table(rows, ("iou", "recall", "precision", "pixels"))
        write_atomic(folder / "classes.csv", table)
        samples = [self.data.test.sample(i) for i in self._found]
        write_atomic(folder / "predictions.png", draw_label_maps(samples, [*self._found.values()]))

    @staticmethod
    def references(data: SegmentationData) -> dict[str, float]:
        """Mean IoU of calling every pixel the commonest class of the test images."""
        pixels = torch.zeros(256, dtype=torch.int64)
        for i in range(len(data.test)):
            pixels += torch.bincount(data.test.sample(i).mask.flatten().long(), minlength=256)
        pixels = pixels[: len(data.classes)]
        share = float(pixels.max() / pixels.sum())
        return {"commonest class": share / int((pixels > 0).sum())}

    def _images(self, images: Tensor) -> Tensor:
        images = normalise(images)
        return images.to(memory_format=torch.channels_last) if self._channels_last else images


def ious(confusion: Tensor) -> Tensor:
    """Intersection over union of each class: float64 (K,), NaN for a class that never occurs.

    Args:
        confusion: (K, K) in pixels; row = class, column = prediction.
    """
    right = confusion.diagonal().double()
    return right / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())


def _as_is(sample: SegmentationSample) -> tuple[Tensor, Tensor]:
    return sample.image, sample.mask


def _alike(batch: Batch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Images of one size, label maps and indices at a time: all of them, or each alone."""
    if isinstance(batch.images, Tensor):
        assert isinstance(batch.masks, Tensor)
        return [(batch.images, batch.masks, batch.indices)]
    each = zip(batch.images, batch.masks, batch.indices, strict=True)
    return [(image[None], mask[None], index[None]) for image, mask, index in each]


def _cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    each = F.cross_entropy(logits, masks.long(), ignore_index=IGNORED, reduction="none")
    valid = (masks != IGNORED).sum((1, 2)).clamp_min(1)
    return (each.sum((1, 2)) / valid).mean()
