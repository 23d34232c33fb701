"""The grid of a comparison: which runs it has, and carrying out those that are not done.

Each run is one folder; a finished one is never repeated, a begun one goes on from its checkpoint.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from convattn.core.config import CompareConfig, TrainConfig, differences
from convattn.core.errors import ArgumentError, ConvattnError
from convattn.core.protocols import Data
from convattn.engine.run import RunFolder
from convattn.engine.signals import Interrupted
from convattn.tasks.train import open_data, train

__all__ = ["Cell", "Watcher", "cells_of", "run_cells"]

ABOUT_A_SECOND = 0.2


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        label: the variant's name; runs that differ in the seed alone share it.
        varied: the varied fields and their values here.
        config: of the run.
    """

    label: str
    varied: dict[str, Any]
    config: TrainConfig

    @property
    def key(self) -> str:
        """Names the run in the grid."""
        return f"{self.label}, seed {self.config.seed}"

    @property
    def folder(self) -> RunFolder:
        """Of the run."""
        assert self.config.name is not None
        return RunFolder(Path(self.config.project) / self.config.name)


class Watcher(Protocol):
    """Who is told how a grid goes on; `event` is (kind, cell key, value)."""

    def tell(self, event: tuple[str, str, Any]) -> None:
        """Kinds and values: "grid" number of runs, "start" (steps, done), "step" (done, loss),
        "epoch" row, "note" text, "done" summary.
        """


def cells_of(base: TrainConfig, grid: CompareConfig, root: Path) -> list[Cell]:
    """All runs of a grid, seed by seed, so that an early stop leaves whole rounds.

    Args:
        base: what all runs share.
        grid: what varies.
        root: folder of the comparison; the runs are folders in root/runs.
    """
    varied = {"attention": grid.blocks, **grid.grid}
    cells = []
    for seed in range(base.seed, base.seed + grid.seeds):
        for values in itertools.product(*varied.values()):
            cell = dict(zip(varied, values, strict=True))
            others = [f"{k}={v}" for k, v in cell.items() if k != "attention"]
            label = ", ".join([cell["attention"], *others])
            folder = "".join(c if c.isalnum() or c in "=.-_" else "_" for c in label)
            config = replace(
                base, **cell, seed=seed, project=str(root / "runs"), name=f"{folder}-seed{seed}"
            )
            cells.append(Cell(label, cell, config))
    folders = [cell.config.name for cell in cells]
    if len(set(folders)) < len(folders):
        raise ArgumentError("two values of the grid give the same folder name; write them apart")
    return cells


def run_cells(cells: Sequence[Cell], jobs: int, watcher: Watcher) -> dict[str, str]:
    """Carry out all runs that are not finished; return the errors of those that failed, by key.

    Raises:
        ArgumentError: a folder holds a run of another configuration; nothing was started.
        Interrupted: SIGINT or SIGTERM; each run in progress has written a checkpoint.
    """
    watcher.tell(("grid", "", len(cells)))
    todo = []
    for cell in cells:
        if cell.folder.exists():
            changed = differences(cell.folder.config(), cell.config)
            if changed:
                raise ArgumentError(
                    f"{cell.folder.path} holds a run with another configuration: "
                    f"{'; '.join(changed)}. Choose another --name for this comparison."
                )
        if cell.folder.summary() is None:
            todo.append(cell)
        else:
            watcher.tell(("done", cell.key, cell.folder.summary()))
    if not todo:
        return {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["convattn.compare.grid", "lightning.fabric", "sklearn.datasets"]
    )
    events = context.Queue()
    failed: dict[str, str] = {}
    with ProcessPoolExecutor(
        min(jobs, len(todo)), context, initializer=_begin_worker, initargs=(events,)
    ) as pool:
        futures = {pool.submit(_run_cell, cell): cell for cell in todo}
        try:
            _watch(futures, events, watcher, failed)
        except BaseException:  # the workers got the signal too; what waits is not begun
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return failed


def _watch(
    futures: dict[Future[dict[str, Any]], Cell],
    events: Any,
    watcher: Watcher,
    failed: dict[str, str],
) -> None:
    waiting = set(futures)
    while waiting:
        ended, waiting = wait(waiting, ABOUT_A_SECOND, FIRST_COMPLETED)
        while True:
            try:
                watcher.tell(events.get_nowait())
            except queue.Empty:
                break
        for future in ended:
            cell = futures[future]
            try:
                watcher.tell(("done", cell.key, future.result()))
            except (ConvattnError, OSError) as error:
                failed[cell.key] = str(error)
                watcher.tell(("note", cell.key, f"failed: {error}"))
            except BrokenProcessPool as error:
                raise ConvattnError(
                    f"a worker process died during {cell.key}, perhaps for want of memory. "
                    "Run the same command again to go on, with fewer --jobs."
                ) from error


_events: Any = None


def _begin_worker(events: Any) -> None:
    """Keep the queue, and die with the parent: an orphan would hold the run's lock."""
    global _events
    _events = events
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Sender:
    """Tells the parent process."""

    def __init__(self, key: str) -> None:
        self.key = key

    def start(self, total: int, done: int) -> None:
        _events.put(("start", self.key, (total, done)))

    def step(self, done: int, loss: float) -> None:
        _events.put(("step", self.key, (done, loss)))

    def epoch(self, row: dict[str, Any]) -> None:
        _events.put(("epoch", self.key, row))

    def note(self, text: str) -> None:
        _events.put(("note", self.key, text))


def _run_cell(cell: Cell) -> dict[str, Any]:
    try:
        return train(cell.config, cell.folder, _Sender(cell.key), _data(cell.config))
    except Interrupted as error:  # the parent has had the signal too and is waiting for this end
        raise KeyboardInterrupt from error


_opened: dict[str, Data] = {}


def _data(config: TrainConfig) -> Data:
    """The data of a configuration; a worker keeps the last ones, as most runs share them."""
    key = repr((config.task, config.data, config.data_args, config.on_bad))
    if key not in _opened:
        _opened.clear()
        _opened[key] = open_data(config)
    return _opened[key]
