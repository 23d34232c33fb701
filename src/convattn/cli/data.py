"""The verbs that look after data: check it, write it as shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress

__all__ = ["look_after_data"]


def look_after_data(options: dict[str, Any]) -> int:
    """`convattn data WHAT`."""
    return {"check": _check, "shard": _shard}[options["what"]](options[options["what"]])


def _check(given: dict[str, Any]) -> int:
    """What is wrong with data; 1 if anything would stop a training."""
    from convattn.data.check import check_data

    with _progress() as progress:
        reports = check_data(given["source"], given["task"], progress, **given["data_args"])
    print("\n".join(map(str, reports)))
    found = any(report.defects for report in reports)
    return 1 if found and given["on_bad"] == "stop" else 0


def _shard(given: dict[str, Any]) -> int:
    """Data as WebDataset's tar files."""
    from convattn.data.sharding import shard_data

    with _progress() as progress:
        report = shard_data(
            given["source"],
            given["folder"],
            given["task"],
            max_mb=given["max_mb"],
            on_bad=given["on_bad"],
            progress=progress,
            **given["data_args"],
        )
    print(report)
    return 0


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        work = bar.add_task("reading")
        yield lambda done, total: bar.update(work, completed=done, total=total)
