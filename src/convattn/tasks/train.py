"""One run from a configuration: open the data, build the task, train, write the results."""

from __future__ import annotations

import os
from dataclasses import asdict
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
from convattn.core.protocols import Reporter
from convattn.data.classification import ClassificationData, open_classification
from convattn.engine.guard import BufferSnapshot
from convattn.engine.launch import check_device, check_launch
from convattn.engine.loop import fit
from convattn.engine.order import Order
from convattn.engine.reporters import Reporters, SilentReporter, TensorBoardReporter
from convattn.engine.run import RunFolder
from convattn.tasks.classification import Classification, restore
from convattn.tasks.plots import write_confusion, write_curves

__all__ = ["evaluate", "open_data", "train"]


def open_data(config: TrainConfig) -> ClassificationData:
    """The data of a configuration, checked."""
    try:
        return open_classification(config.data, on_bad=config.on_bad, **config.data_args)
    except TypeError as error:
        raise ArgumentError(
            f"data_args {config.data_args!r} do not fit data {config.data!r}: {error}"
        ) from error


def train(
    config: TrainConfig,
    run: RunFolder,
    reporter: Reporter,
    data: ClassificationData | None = None,
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
    data = data or open_data(config)
    for note in data.notes:
        reporter.note(note)
    for path, cause in data.skipped:
        reporter.note(f"left out {path}: {cause}")
    task = Classification(config, data, resumed=run.begun())
    for note in task.notes:
        reporter.note(note)
    check_launch(config)  # all that can be refused is refused before anything is written
    _check_smallest_piece(task, config)
    if not first:
        fit(task, config, run, reporter)
        return {}
    with run.locked():
        run.write_config(config)
        write_json(run.path / "environment.json", environment())
        if config.tensorboard:
            done = len((run.latest()[0] or {}).get("history", []))
            reporter = Reporters(reporter, TensorBoardReporter(run.path / "tensorboard", done))
        last = fit(task, config, run, reporter)
        summary = _summary(config, data, run, last)
        if not task.confusion.any():  # a run that was stopped behind its last evaluation
            _evaluated(task, *restore(run.path / "weights" / "last.pt"), config.batch, "cpu")
        write_curves(run.path / "results.png", summary["history"])
        write_confusion(run.path / "confusion_matrix.png", task.confusion, data.classes)
        run.finish(summary)
    return summary


def _check_smallest_piece(task: Classification, config: TrainConfig) -> None:
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
        raise ArgumentError(
            f"batch {config.batch} (accumulate {config.accumulate}) leaves a single one of the "
            f"{task.train_size:,} training images for the last step, and batch norm cannot train "
            f"on one image of {task.facts['size']} pixels: {error}. Use another --batch."
        ) from error
    finally:
        buffers.restore()


def evaluate(
    path: str | Path, *, data: str | None = None, batch: int = 64, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate a weights file on the test images of its own or of other data.

    Args:
        path: weights/best.pt of a run, or the run's folder.
        data: a source as in `TrainConfig.data`; None takes the one that it was trained on.
        batch: images at once.
        device: "auto", "cpu" or "cuda".

    Returns:
        metrics (loss, top1, top5), data, images.

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
    opened = open_data(config)
    if list(opened.classes) != saved["facts"]["classes"]:
        raise DataError(
            f"{opened.name} has the classes {', '.join(opened.classes[:5])}, ...; {path} was "
            f"trained on {', '.join(saved['facts']['classes'][:5])}, ..."
        )
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    metrics = _evaluated(Classification(config, opened, model=model), model, saved, batch, kind)
    return {"metrics": metrics, "data": opened.name, "images": len(opened.test)}


def _evaluated(
    task: Classification, model: nn.Module, saved: dict[str, Any], batch: int, kind: str
) -> dict[str, float]:
    """Metrics of a restored network, in the precision that it was trained in."""
    loader = DataLoader(task.test_set, batch, collate_fn=task.collate)
    precision = saved["config"]["precision"]
    low = torch.bfloat16 if precision == "bf16" else torch.float16
    with torch.inference_mode(), torch.autocast(kind, low, enabled=precision != "fp32"):
        return task.evaluate(model.to(kind), (task.moved(each, kind) for each in loader))


def _summary(
    config: TrainConfig, data: ClassificationData, run: RunFolder, last: dict[str, Any]
) -> dict[str, Any]:
    """Results and full provenance of a finished run."""
    state, _ = run.latest()
    assert state is not None
    history = state["history"]
    best = max((row for row in history if "top1" in row), key=lambda row: row["top1"])
    return {
        "schema": 1,
        "label": config.attention,
        "seed": config.seed,
        "metrics": {k: last[k] for k in ("top1", "top5", "loss") if k in last},
        "best": {"epoch": best["epoch"], "top1": best["top1"]},
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
