"""One run from a configuration: open the data, build the task, train, write the results."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from convattn.core.checks import check_positive
from convattn.core.config import TrainConfig, config_from_dict
from convattn.core.environment import environment
from convattn.core.errors import ArgumentError, DataError
from convattn.core.files import write_json
from convattn.core.names import require
from convattn.core.protocols import Data, Reporter, RunTask
from convattn.engine.guard import BufferSnapshot
from convattn.engine.launch import check_device, check_launch
from convattn.engine.loop import fit
from convattn.engine.order import Order
from convattn.engine.reporters import Reporters, SilentReporter, TensorBoardReporter
from convattn.engine.resume import check_fits
from convattn.engine.run import RunFolder
from convattn.tasks.kinds import recorded_path, restore, task_class
from convattn.tasks.plots import write_curves

__all__ = ["evaluate", "open_data", "train"]

OF_TRAINING = ("epoch", "step", "lr", "seconds")  # in a row of results; the rest is evaluation


def open_data(config: TrainConfig) -> Data:
    """The data of a configuration, checked."""
    return task_class(config.task).open_data(config)


def train(
    config: TrainConfig,
    run: RunFolder,
    reporter: Reporter,
    data: Data | None = None,
) -> dict[str, Any]:
    """Carry a run out, from its newest checkpoint if it has one.

    Args:
        config: of the run.
        run: its folder, new or begun.
        reporter: is told how it goes on; of several processes only the first tells.
        data: of the configuration, where a caller has opened them already.

    Returns:
        The summary, as written to summary.json.

    Raises:
        ConvattnError: a wrong argument, unusable data, a checkpoint that does not fit, or a NaN.
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
    """
    first = os.environ.get("RANK", "0") == "0"
    reporter = reporter if first else SilentReporter()
    with recorded_path(run.exists()):
        data = data or open_data(config)
    for note in data.notes:
        reporter.note(note)
    for path, cause in data.skipped:
        reporter.note(f"left out {path}: {cause}")
    task = task_class(config.task)(config, data, resumed=run.begun())
    for note in task.notes:
        reporter.note(note)
    check_launch(config)  # all that can be refused is refused before anything is written
    _check_smallest_piece(task, config)
    if not first:
        fit(task, config, run, reporter)
        return {}
    with run.locked():
        done = _epochs_done(task, config, run)  # refused or not before args.yaml is written anew
        run.write_config(config)
        write_json(run.path / "environment.json", environment())
        if config.tensorboard:
            reporter = Reporters(reporter, TensorBoardReporter(run.path / "tensorboard", done))
        last = fit(task, config, run, reporter)
        if not task.evaluated:  # a run that was stopped behind its last evaluation
            _evaluated(task, *restore(run.path / "weights" / "last.pt"), config.batch, "cpu")
        summary = _summary(config, task, run, last)
        write_curves(run.path / "results.png", summary["history"], task.curves)
        task.write_pictures(run.path)
        run.finish(summary)
    return summary


def _epochs_done(task: RunTask, config: TrainConfig, run: RunFolder) -> int:
    """Epochs in the run's checkpoint, which has to fit; 0 without one."""
    state, _ = run.latest()
    if state is None:
        return 0
    check_fits(state, run, config, task)
    return len(state["history"])


def _check_smallest_piece(task: RunTask, config: TrainConfig) -> None:
    """Raise `ArgumentError` where an epoch ends in one image that batch norm cannot train on."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    order = Order(task.train_size, config.batch, config.accumulate, 0, world - 1, world)
    last = order.pieces(order.steps_per_epoch - 1)
    if min(map(len, [*order.pieces(0), *last])) > 1:
        return
    image = task.collate([task.train_set[0, 0]])
    buffers = BufferSnapshot(task.model)
    buffers.take()
    try:
        with torch.no_grad():
            task.loss(task.model.train(), image)
    except ValueError as error:  # of torch's batch norm, or of a block's
        left, fix = "for the last step", "another --batch"
        whole = replace(order, accumulate=1)
        if min(len(whole.pieces(step)[0]) for step in (0, order.steps_per_epoch - 1)) > 1:
            left, fix = "in a piece of a step", "a lower --accumulate"
        raise ArgumentError(
            f"batch {config.batch} (accumulate {config.accumulate}) leaves a single one of the "
            f"{task.train_size:,} training images {left}, and batch norm cannot train "
            f"on one image of {task.facts['size']} pixels: {error}. Use {fix}."
        ) from error
    finally:
        buffers.restore()


def evaluate(
    path: str | Path, *, data: str | None = None, batch: int = 64, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate a weights file, of any task, on the test images of its own or of other data.

    Args:
        path: weights/best.pt of a run, or the run's folder.
        data: a source as in `TrainConfig.data`; None takes the one that it was trained on.
        batch: images at once.
        device: "auto", "cpu" or "cuda".

    Returns:
        metrics (of the task; for classification loss, top1, top5), data, images.

    Raises:
        CheckpointError: not a weights file.
        DataError: the classes are not those of the network.
    """
    check_positive("eval", "batch", batch)
    check_device(device)
    model, saved = restore(path)
    # whatever the size of the other data's images, the network sees them in its own
    values = {**saved["config"], "imgsz": saved["facts"]["size"]}
    if data is not None:
        values |= {"data": data, "data_args": {}}
    config = config_from_dict(values, f"the configuration in {path}")
    with recorded_path(data is None):
        opened = open_data(config)
    if list(opened.classes) != saved["facts"]["classes"]:
        raise DataError(
            f"{opened.name} has the classes {', '.join(opened.classes[:5])}, ...; {path} was "
            f"trained on {', '.join(saved['facts']['classes'][:5])}, ..."
        )
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    task = task_class(config.task)(config, opened, model=model)
    metrics = _evaluated(task, model, saved, batch, kind)
    return {"metrics": metrics, "data": opened.name, "images": len(opened.test)}


def _evaluated(
    task: RunTask, model: nn.Module, saved: dict[str, Any], batch: int, kind: str
) -> dict[str, float]:
    """Metrics of a restored network, in the precision that it was trained in."""
    moved = require("lightning.fabric.utilities", "train").move_data_to_device
    loader = DataLoader(task.test_set, batch, collate_fn=task.collate)
    precision = saved["config"]["precision"]
    low = torch.bfloat16 if precision == "bf16" else torch.float16
    with torch.inference_mode(), torch.autocast(kind, low, enabled=precision != "fp32"):
        return task.evaluate(model.to(kind), (moved(each, torch.device(kind)) for each in loader))


def _summary(
    config: TrainConfig, task: RunTask, run: RunFolder, last: dict[str, Any]
) -> dict[str, Any]:
    """Results and full provenance of a finished run."""
    data, metric = task.data, task.metric
    state, _ = run.latest()
    assert state is not None
    history = state["history"]
    best = max((row for row in history if metric in row), key=lambda row: row[metric])
    return {
        "schema": 1,
        "label": config.attention,
        "seed": config.seed,
        "task": config.task,
        "metric": metric,
        "metrics": {k: v for k, v in last.items() if k not in OF_TRAINING and k[:6] != "train_"},
        "by_class": task.by_class,
        "best": {"epoch": best["epoch"], metric: best[metric]},
        "history": history,
        "skipped_steps": state["skipped"],
        "config": asdict(config),
        "environment": environment(),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train": len(data.train),
            "test": len(data.test),
            "skipped": len(data.skipped),
        },
        "seconds": state["seconds"],
    }
