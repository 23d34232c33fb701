"""What the sources of all tasks have in common: options by name, folders, class names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.core.names import suggest
from convattn.data.images import shown

__all__ = ["SCENE_OPTIONS", "check_options", "existing_folder", "own_classes"]

SCENE_OPTIONS = (
    "train_count",
    "test_count",
    "size",
    "seed",
    "digits",
    "height",
    "turn",
    "clutter",
)


def check_options(options: dict[str, Any], names: Iterable[str], kind: str) -> None:
    """Raise `ArgumentError` for an option that this kind of data has not."""
    for name in options:
        if name not in names:
            raise ArgumentError(f"no option {name!r} for {kind}: {suggest(name, names)}")


def existing_folder(source: str | os.PathLike[str], accepted: str) -> Path:
    """The folder; raises `DataNotFoundError` with what is accepted if there is none."""
    folder = Path(source).expanduser()
    if not os.path.lexists(folder):
        near = difflib.get_close_matches(str(source).lower(), ["scenes"])
        hint = "Did you mean 'scenes'? " if near else ""
        raise DataNotFoundError(f"no data at {shown(source)!r}: no such folder. {hint}{accepted}")
    return folder


def own_classes(folder: Path, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Class names as given, or of the folder's classes.txt (one in each line), or None.

    Raises:
        DataError: A name occurs twice, or there is none.
    """
    file = folder / "classes.txt"
    if given is None and not file.is_file():
        return None
    lines = file.read_text("utf-8").splitlines() if given is None else given
    names = tuple(str(line).strip() for line in lines if str(line).strip())
    if not names or len(set(names)) != len(names):
        where = shown(file) if given is None else "classes"
        raise DataError(f"{where}: expected class names, each once; got {list(names)}.")
    return names
