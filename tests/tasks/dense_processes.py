"""Runs of dense tasks in float64, alone or as one of torchrun's processes; see test_dense_split.py.

torchrun --nproc_per_node 2 dense_processes.py RUNS
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convattn.core.config import TrainConfig
from convattn.engine.loop import fit
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.models.dense.features import freeze_norms
from convattn.tasks.kinds import task_class

FIXED: dict[str, Any] = {
    "backbone": "mobilenet_v2", "backbone_args": {"width_mult": 0.1}, "attention": "eca",
    "augment": "none", "epochs": 1, "batch": 4, "lr": 0.01, "device": "cpu", "threads": 1,
    "tensorboard": False, "data_args": {"train_count": 5, "test_count": 1, "size": 32},
}  # fmt: skip


class Folder(RunFolder):
    """Without files of weights: they take longer to write than to train."""

    def save_weights(self, name: str, state: dict[str, Any]) -> None:
        pass


def run(folder: Path, frozen: bool = True, **fields: Any) -> None:
    """Five scenes in batches of 4 and 1: one of two processes is idle in the last.

    Args:
        folder: of the run.
        frozen: batch norms keep their statistics, so no sample's output depends on its batch.
        **fields: of the configuration.
    """
    torch.set_default_dtype(torch.float64)
    try:
        task = made(TrainConfig(**{**FIXED, **fields}), frozen)
        first = os.environ.get("RANK", "0") == "0"
        with Folder(folder).locked() if first else nullcontext():
            fit(task, task.config, Folder(folder), SilentReporter())
    finally:
        torch.set_default_dtype(torch.float32)


def made(config: TrainConfig, frozen: bool) -> Any:
    """The task, without what draws for a whole piece, and without scores."""
    kind = task_class(config.task)
    task: Any = kind(config, kind.open_data(config))
    if frozen:
        freeze_norms(task.model)
    task.parameters = [{"params": list(task.model.parameters()), "scale": 1.0}]
    for module in task.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    task.evaluate = lambda *_: {task.metric: 0.0}
    task.config = config
    return task


if __name__ == "__main__":
    for each in json.loads(sys.argv[1]):
        run(Path(each.pop("folder")), **each)
