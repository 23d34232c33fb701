"""The tasks by name, and networks of any of them rebuilt from their weights files."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

from convattn.core.errors import ArgumentError, CheckpointError, DataNotFoundError
from convattn.core.files import load_checkpoint
from convattn.core.protocols import RunTask

__all__ = ["recorded_path", "restore", "task_class", "task_names"]

_KINDS = {
    "classification": "classification:Classification",
    "detection": "detection:Detection",
    "instance": "detection:InstanceSegmentation",
    "segmentation": "segmentation:Segmentation",
}


def task_names() -> tuple[str, ...]:
    """Those of `TrainConfig.task` whose file is there."""
    return tuple(name for name in _KINDS if find_spec(_place(name)[0]))


def task_class(name: str) -> type[RunTask]:
    """The class of a task.

    Raises:
        ArgumentError: there is no such task.
    """
    if name not in task_names():
        raise ArgumentError(f"there is no task {name!r}; choose {' or '.join(task_names())}")
    file, kind = _place(name)
    found: type[RunTask] = getattr(importlib.import_module(file), kind)
    return found


def restore(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained network from its weights file alone.

    Args:
        path: weights/best.pt or weights/last.pt of a run, or the run's folder (best).

    Returns:
        The network in eval mode, and the file's contents without the weights.

    Raises:
        CheckpointError: not such a file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "weights" / "best.pt"
    saved = load_checkpoint(path)
    if "facts" not in saved:
        raise CheckpointError(
            f"{path} is a checkpoint to resume from, not a network; use the run's weights/best.pt"
        )
    try:
        model = task_class(saved["facts"]["task"]).rebuild(saved["facts"])
        model.load_state_dict(saved.pop("model"))
    except (ArgumentError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not fit this version of convattn: {shorten(str(error), 300)}"
        ) from error
    return model.eval(), saved


@contextmanager
def recorded_path(recorded: bool) -> Iterator[None]:
    """Say of data that are not found where their path comes from, if a run recorded it."""
    try:
        yield
    except DataNotFoundError as error:
        if not recorded:
            raise
        raise DataNotFoundError(
            f"{error} This path is what the run has recorded; if the data lie elsewhere now, give "
            "--data."
        ) from error


def _place(name: str) -> tuple[str, str]:
    file, _, kind = _KINDS[name].partition(":")
    return f"convattn.tasks.{file}", kind
