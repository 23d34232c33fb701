"""A picture of what a trained network's attention lets through, on test images."""

from __future__ import annotations

from pathlib import Path

import torch

from convattn.core.checks import check_positive
from convattn.core.config import TrainConfig
from convattn.explain import choose_columns, gate_maps, picture_grid
from convattn.tasks.classification import Classification, restore
from convattn.tasks.train import open_data
from convattn.tasks.transforms import normalise

__all__ = ["gate_picture"]


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
    model, saved = restore(path)
    config = TrainConfig(**saved["config"])
    if data is not None:
        config = TrainConfig(**{**saved["config"], "data": data, "data_args": {}})
    task = Classification(config, open_data(config), model=model)
    labels = task.data.test.labels.tolist()
    first_of_each = [labels.index(label) for label in dict.fromkeys(labels)]
    chosen = first_of_each[:count]
    batch = task.collate([task.test_set[i] for i in chosen])
    images = normalise(batch.images)
    with torch.inference_mode():
        predicted = model(images).argmax(1).tolist()
    names = task.data.classes
    return picture_grid(
        batch.images,
        choose_columns(gate_maps(model, images)),
        labels=[(names[labels[i]], names[p]) for i, p in zip(chosen, predicted, strict=True)],
    )
