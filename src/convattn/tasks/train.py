"""One run from a configuration: open the data, build the task, train, write the results."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from convattn.core.config import TrainConfig
from convattn.core.environment import environment
from convattn.core.errors import DataError
from convattn.core.files import write_json
from convattn.core.protocols import Reporter
from convattn.data.classification import ClassificationData, open_classification
from convattn.engine.loop import fit
from convattn.engine.reporters import Reporters, SilentReporter, TensorBoardReporter
from convattn.engine.run import RunFolder
from convattn.tasks.classification import Classification, restore
from convattn.tasks.plots import write_confusion, write_curves

__all__ = ["evaluate", "open_data", "train"]


def open_data(config: TrainConfig) -> ClassificationData:
    """The data of a configuration, checked."""
    return open_classification(config.data, on_bad=config.on_bad, **config.data_args)


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
    task = Classification(config, data)
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
        write_curves(run.path / "results.png", summary["history"])
        write_confusion(run.path / "confusion_matrix.png", task.confusion, data.classes)
        run.finish(summary)
    return summary


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
    model, saved = restore(path)
    config = TrainConfig(**saved["config"])
    if data is not None:
        config = TrainConfig(**{**saved["config"], "data": data, "data_args": {}})
    opened = open_data(config)
    if list(opened.classes) != saved["facts"]["classes"]:
        raise DataError(
            f"{opened.name} has the classes {', '.join(opened.classes[:5])}, ...; {path} was "
            f"trained on {', '.join(saved['facts']['classes'][:5])}, ..."
        )
    task = Classification(config, opened)
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    loader = torch.utils.data.DataLoader(task.test_set, batch, collate_fn=task.collate)
    with torch.inference_mode():
        batches = (task.moved(each, kind) for each in loader)
        metrics = task.evaluate(model.to(kind), batches)
    return {"metrics": metrics, "data": opened.name, "images": len(opened.test)}


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
