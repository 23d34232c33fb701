"""What can be wrong with data: named, counted, and fatal or left out as the user chose."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from convattn.core.errors import ArgumentError, DataError

__all__ = ["Defect", "Kind", "OnBad", "check_on_bad", "counted", "in_threads", "shifted", "stop"]

OnBad = Literal["stop", "skip"]
Kind = Literal[
    "unreadable image",
    "unreadable annotation",
    "empty annotation",
    "unknown image",
    "unknown class",
    "box outside the image",
    "box without area",
    "missing mask",
]
Progress = Callable[[int, int], None]
T = TypeVar("T")
_NAMED = 10  # how many defects a message lists
_WINDOW = 4096  # files handed to the threads at once: a million futures would fill the memory


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong: in which sample, of what kind, and the cause in words."""

    sample: str
    kind: Kind
    cause: str

    def __str__(self) -> str:
        return f"{self.sample}: {self.kind}: {self.cause}"


def check_on_bad(on_bad: object) -> None:
    """Raise `ArgumentError` unless the choice is one of `OnBad`."""
    if on_bad not in ("stop", "skip"):
        raise ArgumentError(f"on_bad must be 'stop' or 'skip', got {on_bad!r}.")


def counted(defects: Sequence[Defect]) -> str:
    """'3 box without area, 1 unreadable image'."""
    kinds = Counter(defect.kind for defect in defects)
    return ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))


def stop(defects: Sequence[Defect], where: str) -> None:
    """Raise `DataError` if there is any defect: counts by kind, and the first ten."""
    if not defects:
        return
    lines = "".join(f"\n  {defect}" for defect in defects[:_NAMED])
    more = f"\n  and {len(defects) - _NAMED:,} more" if len(defects) > _NAMED else ""
    raise DataError(
        f"{where}: {len(defects):,} defects ({counted(defects)}):{lines}{more}\n"
        "Repair or remove them, or leave them out with on_bad='skip' (--on_bad skip)."
    )


def in_threads(
    examine: Callable[[int], T],
    count: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Iterator[T]:
    """`examine(0)` to `examine(count - 1)` in order, computed by threads (Pillow frees the lock).

    Args:
        examine: Called once for each number.
        count: How many.
        threads: Default one per CPU, at most 16.
        progress: Called with (done, count) after each.
    """
    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, count, _WINDOW):
            window = range(start, min(start + _WINDOW, count))
            for index, result in zip(window, pool.map(examine, window), strict=True):
                yield result
                if progress is not None:
                    progress(index + 1, count)


def shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of a part of the work: `before` of `total` lie behind it."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
