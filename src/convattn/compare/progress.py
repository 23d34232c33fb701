"""A grid's progress on the terminal: all steps of all runs, the time left, and what runs now."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from convattn.core.names import metric_name

__all__ = ["GridProgress"]


class GridProgress:
    """Shows one bar for the grid and one for each run in progress; plain lines off a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=120,
            disable=not self.console.is_terminal,
        )
        self.runs, self.finished = 0, 0
        self.all = self.progress.add_task("starting", total=None)
        self.bars: dict[str, Any] = {}
        self.shares: dict[str, float] = {}

    def __enter__(self) -> GridProgress:
        self.progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.progress.stop()

    def tell(self, event: tuple[str, str, Any]) -> None:
        """Show an event of `run_cells`."""
        kind, key, value = event
        if kind == "grid":
            self.runs = value
            self.progress.update(self.all, total=value)
        elif kind == "start":
            total, done = value
            self.bars[key] = self.progress.add_task(f"  {key}", total=total, completed=done)
        elif kind == "step" and key in self.bars:
            self.progress.update(self.bars[key], completed=value[0])
        elif kind == "note":
            text = f"{key}: {value}" if key else str(value)
            self.console.print(text, highlight=False, markup=False)
        elif kind == "done":
            self.finished += 1
            metric = value["metric"]
            shown = f"{metric_name(metric)} {100 * value['metrics'][metric]:.1f} %"
            self.console.print(
                f"{self.finished}/{self.runs}  {key}: {shown}, {value['seconds']:.0f} s",
                highlight=False,
            )
            if key in self.bars:
                self.progress.remove_task(self.bars.pop(key))
                self.shares.pop(key, None)
        for name, bar in self.bars.items():
            self.shares[name] = (
                self.progress.tasks[self.progress.task_ids.index(bar)].percentage / 100
            )
        self.progress.update(
            self.all,
            completed=self.finished + sum(self.shares.values()),
            description=f"runs {self.finished}/{self.runs}",
        )
