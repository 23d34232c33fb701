"""How a run is told: a progress bar with the time left, plain lines, TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from convattn.core.names import require
from convattn.core.protocols import Reporter

__all__ = ["ConsoleReporter", "Reporters", "SilentReporter", "TensorBoardReporter", "row_text"]


class SilentReporter:
    """Tells nobody."""

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, done: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class ConsoleReporter:
    """A progress bar on a terminal; elsewhere one line per epoch."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> ConsoleReporter:
        self.progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.progress.stop()

    def start(self, total: int, done: int) -> None:
        """Show the bar."""
        self._bar = self.progress.add_task("training", total=total, completed=done, loss=0.0)
        if done:
            self.note(f"resumed at step {done} of {total}")

    def step(self, done: int, loss: float) -> None:
        """Move the bar."""
        if self._bar is not None:
            self.progress.update(self._bar, completed=done, loss=loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """Print the epoch's values."""
        self.console.print(row_text(row), highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a note."""
        self.console.print(
            f"note: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )


class TensorBoardReporter(SilentReporter):
    """Writes each epoch's values for TensorBoard.

    Args:
        folder: of the event files.
        done: epochs that an earlier part of the run has written; later entries are dropped.
    """

    def __init__(self, folder: Path, done: int) -> None:
        require("tensorboard", "train")
        tensorboard = require("torch.utils.tensorboard", "train")
        self.writer = tensorboard.SummaryWriter(str(folder), purge_step=done + 1)

    def epoch(self, row: dict[str, Any]) -> None:
        """Write the row's numbers."""
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()


class Reporters:
    """Tells several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self.reporters = reporters

    def start(self, total: int, done: int) -> None:
        """Tell all."""
        for reporter in self.reporters:
            reporter.start(total, done)

    def step(self, done: int, loss: float) -> None:
        """Tell all."""
        for reporter in self.reporters:
            reporter.step(done, loss)

    def epoch(self, row: dict[str, Any]) -> None:
        """Tell all."""
        for reporter in self.reporters:
            reporter.epoch(row)

    def note(self, text: str) -> None:
        """Tell all."""
        for reporter in self.reporters:
            reporter.note(text)


def row_text(row: dict[str, Any]) -> str:
    """An epoch's row as one line."""
    parts = [f"epoch {row['epoch']}"]
    for name, value in row.items():
        if name in ("epoch", "step", "seconds"):
            continue
        plain = name == "lr" or "loss" in name or name.startswith("train_")
        parts.append(f"{name} {value:.4g}" if plain else f"{name} {100 * value:.1f} %")
    return ", ".join([*parts, f"{row['seconds']:.0f} s"])
