"""Classification: cross entropy, top-1 and top-5 accuracy, confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.names import require
from convattn.core.seeds import derive
from convattn.data.classification import (
    ClassificationData,
    ImageSet,
    chance_level,
    linear_baseline,
    open_classification,
)
from convattn.tasks.networks import build_network, class_tensors, parameter_groups, rebuild_network
from convattn.tasks.plots import write_confusion
from convattn.tasks.sets import TestSet, TrainSet
from convattn.tasks.transforms import Transform, normalise, test_transform, train_transform

__all__ = ["Classification"]

PHOTO_SIZE = 224


class Batch(NamedTuple):
    """uint8 images (N, 3, S, S), labels (N,), indices of the samples (N,)."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class Classification:
    """The classification task of a configuration on data; see `core/protocols.py`.

    Args:
        config: of the run.
        data: its images.
        model: a trained network to evaluate; None builds a new one.
        resumed: the new one's weights will come from a checkpoint of the run.

    Attributes:
        confusion: int64 (K, K) of the last evaluation; row = class, column = prediction.
        notes: on the network, for the user.

    Raises:
        ArgumentError, UnknownNameError: of the model, the block or their arguments.
    """

    metric = "top1"
    curves = ("top1", "top5")
    class_metric = ""
    by_class: Mapping[str, Mapping[str, float]] = {}

    def __init__(
        self,
        config: TrainConfig,
        data: ClassificationData,
        *,
        model: nn.Module | None = None,
        resumed: bool = False,
    ) -> None:
        if "num_classes" in config.model_args:
            raise ArgumentError(
                f"model_args holds num_classes {config.model_args['num_classes']!r}, but the data "
                f"decide it ({len(data.classes)} classes in {data.name}); leave it out"
            )
        if config.backbone or config.backbone_args or config.backbone_weights:
            raise ArgumentError(
                "classification has no backbone; name the network with --model, its arguments with "
                "--model_args, its weights with --checkpoint"
            )
        self.data = data
        size = config.imgsz or data.image_size or PHOTO_SIZE
        native = size == data.image_size
        self.facts: dict[str, Any] = {
            "task": "classification", "classes": list(data.classes), "size": size, "native": native,
        }  # fmt: skip
        self.notes: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        if model is None:
            seed = derive(config.seed, "weights")
            model, network, self.notes = build_network(
                config, len(data.classes), seed, resumed=resumed
            )
            self.facts |= network
            self.parameters = parameter_groups(
                model, config, partial(class_tensors, config, len(data.classes))
            )
        self.model = model
        self.train_set = TrainSet(
            partial(_labelled, data.train),
            partial(_prepared, train_transform(config.augment, size, native)),
            config.seed,
        )
        self.test_set = TestSet(
            len(data.test),
            partial(_labelled, data.test),
            partial(_prepared, test_transform(size, native)),
        )
        self.train_size = len(data.train)
        self.fingerprint = data.fingerprint
        self.confusion = torch.zeros(len(data.classes), len(data.classes), dtype=torch.int64)
        self._smoothing = config.label_smoothing
        self._channels_last = config.channels_last
        self._mix = _mixer(config, len(data.classes))

    @staticmethod
    def open_data(config: TrainConfig) -> ClassificationData:
        """The data of a configuration, checked."""
        try:
            return open_classification(config.data, on_bad=config.on_bad, **config.data_args)
        except TypeError as error:
            raise ArgumentError(
                f"data_args {config.data_args!r} do not fit data {config.data!r}: {error}"
            ) from error

    @staticmethod
    def rebuild(facts: dict[str, Any]) -> nn.Module:
        """The network of a weights file's facts."""
        return rebuild_network(facts)

    @staticmethod
    def references(data: ClassificationData) -> dict[str, float]:
        """Accuracy of the largest class, and of a line through the pixels."""
        return {"chance": chance_level(data), "linear on pixels": linear_baseline(data)}

    def collate(self, samples: list[tuple[Tensor, Tensor, int]]) -> Batch:
        """Stack the samples."""
        images, labels, indices = zip(*samples, strict=True)
        return Batch(torch.stack(images), torch.stack(labels), torch.tensor(indices))

    def batch_size(self, batch: Batch) -> int:
        """N."""
        return len(batch.labels)

    def sample_ids(self, batch: Batch) -> Sequence[str]:
        """Names of the training images."""
        return [self.data.train.sample_id(i) for i in batch.indices.tolist()]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy, with the configuration's label smoothing and mixing."""
        images, labels = self._images(batch), batch.labels
        if self._mix is not None:
            images, labels = self._mix(images, labels)
        return F.cross_entropy(_logits(model, images), labels, label_smoothing=self._smoothing)

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Loss, top-1 and, from six classes up, top-5 accuracy, from 0 to 1."""
        count = len(self.data.classes)
        loss, right, right5, total = 0.0, 0, 0, 0
        confusion = torch.zeros_like(self.confusion)
        for batch in batches:
            logits = _logits(model, self._images(batch)).float()
            loss += F.cross_entropy(logits, batch.labels, reduction="sum").item()
            ranked = logits.topk(min(5, count), 1).indices
            hits = ranked == batch.labels[:, None]
            right += int(hits[:, 0].sum())
            right5 += int(hits.sum())
            total += len(batch.labels)
            pairs = (batch.labels * count + ranked[:, 0]).cpu()
            confusion += torch.bincount(pairs, minlength=count * count).view(count, count)
        self.confusion = confusion
        metrics = {"loss": loss / total, "top1": right / total}
        return metrics | ({"top5": right5 / total} if count > 5 else {})

    @property
    def evaluated(self) -> bool:
        """Whether there is a confusion matrix."""
        return bool(self.confusion.any())

    def write_pictures(self, folder: Path) -> None:
        """The confusion matrix."""
        write_confusion(folder / "confusion_matrix.png", self.confusion, self.data.classes)

    def _images(self, batch: Batch) -> Tensor:
        images = normalise(batch.images)
        return images.to(memory_format=torch.channels_last) if self._channels_last else images


def _labelled(images: ImageSet, index: int) -> tuple[Tensor, Tensor]:
    return images.image(index), images.labels[index]


def _prepared(transform: Transform, sample: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return transform(sample[0]), sample[1]


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    out = model(images)
    if not isinstance(out, Tensor):
        raise ArgumentError(
            f"the network returns {type(out).__name__}, classification needs logits (N, K); for "
            "torchvision's googlenet and inception_v3 give --model_args '{aux_logits: false}'"
        )
    return out


def _mixer(config: TrainConfig, classes: int) -> Any:
    """Mixup, CutMix, or one of them at random for each batch; None for neither."""
    if not (config.mixup or config.cutmix):
        return None
    v2 = require("torchvision.transforms.v2", "train")
    mixers = []
    if config.mixup:
        mixers.append(v2.MixUp(alpha=config.mixup, num_classes=classes))
    if config.cutmix:
        mixers.append(v2.CutMix(alpha=config.cutmix, num_classes=classes))
    return v2.RandomChoice(mixers)
