"""A comparison from start to end: runs, costs, statistics, records, report page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from convattn.compare.grid import Cell, Watcher, cells_of, run_cells
from convattn.compare.records import Run
from convattn.compare.report import Picture, write_report
from convattn.compare.statistics import Comparison, compare_runs
from convattn.core.config import PLACE, CompareConfig, TrainConfig
from convattn.core.errors import ArgumentError
from convattn.core.files import occupied, write_json
from convattn.core.inserts import parse_inserts
from convattn.core.seeds import seeded
from convattn.cost import cost, measure
from convattn.engine.run import RunFolder
from convattn.models import create_model
from convattn.models._blocks import usual_position
from convattn.models.dense import backbone_of, full_load
from convattn.tasks.dense_pictures import side_by_side
from convattn.tasks.gates import gate_picture
from convattn.tasks.kinds import restore, task_class
from convattn.tasks.networks import place_blocks

__all__ = ["compare"]

AT_MOST = 6  # variants in a picture of predictions


def compare(
    base: TrainConfig, grid: CompareConfig, watcher: Watcher, command: str = ""
) -> tuple[Comparison, Path, dict[str, str]]:
    """Carry out what is not done yet of a comparison, then write its results.

    The folder `project/name` gets runs/ (one folder a run), results/ (one JSON a run, with cost
    and full provenance), references.json, and report.html.

    Args:
        base: what all runs share; its `name` is the comparison's.
        grid: what varies.
        watcher: is told how it goes on.
        command: repeats this; shown in the report.

    Returns:
        The comparison, the report's path, and the errors of failed runs by their names.

    Raises:
        ArgumentError: the folder holds something else or runs of another configuration, a network
            or block cannot be built, or all runs failed.
        Interrupted, KeyboardInterrupt: asked to stop; the same command goes on.
    """
    root = Path(base.project) / (base.name or "compare")
    if occupied(root) and not (root / "runs").is_dir():
        raise ArgumentError(
            f"{root} holds {'a training run' if RunFolder(root).exists() else 'files'} and no "
            "comparison; expected a new or empty folder, or a comparison to go on with. Choose "
            "another --name."
        )
    jobs = grid.jobs or _default_jobs(base)
    if jobs > 1 and base.threads is None:
        base = replace(base, threads=1)
    cells = [
        replace(cell, config=_at_one_position(cell.config)) for cell in cells_of(base, grid, root)
    ]
    for config in {cell.label: cell.config for cell in cells}.values():
        _check_blocks(config)
    failed = run_cells(cells, jobs, watcher)
    done = [cell for cell in cells if cell.key not in failed]
    if not done:
        raise ArgumentError(
            f"all {len(cells)} runs failed; the first: {next(iter(failed.values()))}"
        )
    watcher.tell(("note", "", "measuring cost and latency"))
    costs = _costs(done, root / "costs.json")
    runs = []
    for cell in done:
        summary = cell.folder.summary()
        assert summary is not None
        record = {
            **summary, "cell": cell.varied, "label": cell.label, "cost": costs[cell.label]
        }  # fmt: skip
        write_json(root / "results" / f"{cell.config.name}.json", record)
        runs.append(
            Run.from_dict(record, source=str(root / "results" / f"{cell.config.name}.json"))
        )
    references = _references(base, root / "references.json")
    kind = task_class(base.task)
    found = compare_runs(
        runs,
        metric=kind.metric,
        references=references,
        focus=next((cell.label for cell in done if _has_ca(cell)), "ca"),
        ignore=PLACE if base.at else (*PLACE, "at"),  # else it follows from network and blocks
    )
    report = write_report(
        root / "report.html",
        found,
        runs,
        pictures=_pictures(done),
        class_metric=kind.class_metric,
        title=f"Attention blocks compared on {runs[0].data['name']}",
        command=command or None,
    )
    return found, report, failed


def _at_one_position(config: TrainConfig) -> TrainConfig:
    """A block without a position at the network's usual one; alone it would go to its authors'."""
    if config.at is not None or "@" in config.attention:
        return config
    network = (config.model, config.model_args)
    if config.backbone is not None:
        network = (config.backbone, config.backbone_args)
    return replace(config, at=_usual(network[0], json.dumps(network[1])))


def _check_blocks(config: TrainConfig) -> None:
    """Raise what the run would of its blocks: names, positions, arguments; no file is read."""
    name, arguments = config.model, config.model_args
    if config.backbone is not None:
        name, own, _ = backbone_of(config.model, config.backbone, config.model_args)
        arguments = {**config.backbone_args, **own}
    with torch.device("cpu" if "/" in name else "meta"), seeded(0):
        place_blocks(create_model(name, **arguments), config)


@cache
def _usual(model: str, arguments: str) -> str:
    with torch.device("cpu" if "/" in model else "meta"), seeded(0):
        position = usual_position(create_model(model, **json.loads(arguments)))
    if position is None:
        raise ArgumentError(
            f"{model} has none of the positions where blocks are usually compared; choose one for "
            "all with --at, or for each with --blocks '[none, ca@POSITION]'"
        )
    return position


def _default_jobs(base: TrainConfig) -> int:
    """One run a core; one in all where each uses a GPU, or as many threads as asked for."""
    if base.device != "cpu" and torch.cuda.is_available():
        return 1
    return max(1, (os.cpu_count() or 1) // (base.threads or 1))


def _costs(cells: Sequence[Cell], path: Path) -> dict[str, Any]:
    """Parameters, MACs and latency by label; measured in turn, once, when no run disturbs."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    weights = {cell.label: cell.folder.path for cell in reversed(cells)}
    if set(weights) <= set(known):
        return known
    nets = {label: restore(folder) for label, folder in weights.items()}
    loads = {label: full_load(net) for label, (net, _) in nets.items()}
    sizes = {label: (1, 3, *[saved["facts"]["size"]] * 2) for label, (_, saved) in nets.items()}
    latencies: Mapping[str, Any] = {}
    if len(set(sizes.values())) == 1:  # times of different work are not set side by side
        latencies = measure({k: net for k, (net, _) in nets.items()}, next(iter(sizes.values())))
    costs: dict[str, Any] = {}
    for label, (net, _) in nets.items():
        counted = cost(net, sizes[label])
        costs[label] = {
            "parameters": counted.parameters, "macs": counted.macs,
            "input_size": counted.input_size, "load": loads[label],
        }  # fmt: skip
        if label in latencies:
            spread = asdict(latencies[label])
            names = ("median", "low", "high", "threads", "batch")
            costs[label]["latency_ms"] = {name: spread[name] for name in names}
    write_json(path, costs)
    return costs


def _references(base: TrainConfig, path: Path) -> dict[str, float]:
    """Values of the metric that need no network."""
    if path.is_file():
        return dict(json.loads(path.read_text()))
    kind = task_class(base.task)
    references = kind.references(kind.open_data(base))
    write_json(path, references)
    return references


def _pictures(cells: Sequence[Cell]) -> list[Picture]:
    """Predictions of boxes and masks side by side; else gates of the first CA network."""
    if cells[0].config.task != "classification":
        return _predictions(cells)
    cell = next(filter(_has_ca, cells), None)
    if cell is None:
        return []
    caption = (
        f"Row gate times column gate, averaged over channels, in {cell.key}. Bright positions "
        "are passed on, dark ones damped; each column has a scale of its own."
    )
    png = gate_picture(cell.folder.path)
    return [Picture("What Coordinate Attention lets through", caption, png, wide=True)]


def _predictions(cells: Sequence[Cell]) -> list[Picture]:
    """What the first variants find in the same test images, with their first seed."""
    firsts = {cell.label: cell.folder.path for cell in reversed(cells)}
    labels = list(dict.fromkeys(cell.label for cell in cells))[:AT_MOST]
    png = side_by_side({
        label: (firsts[label] / "predictions.png").read_bytes() for label in labels
    })  # fmt: skip
    caption = (
        "The first test images: what is annotated, and what each variant finds after its last "
        f"epoch, with seed {cells[0].config.seed}."
    )
    if cells[0].config.task != "segmentation":
        caption += " Detections are shown from a score of 0.5 on."
    return [Picture("Annotations and predictions", caption, png, wide=True)]


def _has_ca(cell: Cell) -> bool:
    return any(block == "ca" for block, _ in parse_inserts(cell.config.attention))
