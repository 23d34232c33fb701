"""A trained network on test images, and a picture of what its attention lets through."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from convattn.core.checks import check_positive
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError
from convattn.explain import choose_columns, gate_maps, picture_grid
from convattn.tasks.classification import Classification
from convattn.tasks.kinds import recorded_path, restore
from convattn.tasks.transforms import normalise

__all__ = ["gate_picture", "network_and_images"]


def gate_picture(path: str | Path, *, data: str | None = None, count: int = 5) -> bytes:
    """A PNG: rows are test images of different classes, columns the input and blocks' gates.

    Args:
        path: weights/best.pt of a run, or the run's folder.
        data: a source as in `TrainConfig.data`; None takes the one that it was trained on.
        count: number of images.

    Raises:
        ArgumentError: the network has no gate block, or `count` is not positive.
        CheckpointError: not a weights file.
    """
    check_positive("gate_picture", "count", count)
    model, task, chosen = _open(path, data, count)
    batch = task.collate([task.test_set[i] for i in chosen])
    images = normalise(batch.images)
    with torch.inference_mode():
        predicted = model(images).argmax(1).tolist()
    names, labels = task.data.classes, task.data.test.labels.tolist()
    return picture_grid(
        batch.images,
        choose_columns(gate_maps(model, images)),
        labels=[(names[labels[i]], names[p]) for i, p in zip(chosen, predicted, strict=True)],
    )


def network_and_images(
    path: str | Path, *, data: str | None = None, count: int = 5
) -> tuple[nn.Module, Tensor]:
    """A trained network, and test images of different classes as it was trained to see them.

    The arguments are those of `gate_picture`.
    """
    model, task, chosen = _open(path, data, count)
    return model, normalise(task.collate([task.test_set[i] for i in chosen]).images)


def _open(
    path: str | Path, data: str | None, count: int
) -> tuple[nn.Module, Classification, list[int]]:
    """The network, its task, and the first test image of each of `count` classes."""
    model, saved = restore(path)
    config = TrainConfig(**saved["config"])
    if data is not None:
        config = TrainConfig(**{**saved["config"], "data": data, "data_args": {}})
    if config.task != "classification":
        raise ArgumentError(f"{path} is of {config.task}; this takes runs of classification")
    with recorded_path(data is None):
        opened = Classification.open_data(config)
    task = Classification(config, opened, model=model)
    labels = task.data.test.labels.tolist()
    return model, task, [labels.index(label) for label in dict.fromkeys(labels)][:count]
