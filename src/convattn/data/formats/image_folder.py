"""Class folders on disk, in ImageNet's layout, scanned and checked before anything trains.

Accepted: `root/train/CLASS/...` with `root/val/CLASS/...` (or `test`, `validation`, `valid`), or
`root/CLASS/...` alone, from which a fixed share becomes the test set. This file does not decode;
see `images.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.data.image_files import ImageFiles
from convattn.data.images import IMAGE_SUFFIXES, shown

__all__ = ["Folders", "class_folders", "scan_folders"]

TRAIN_NAMES = ("train",)
TEST_NAMES = ("val", "test", "validation", "valid")
_NAMED = 10  # how many culprits a message lists


@dataclass(frozen=True)
class Folders:
    """What a scan found: the two splits, the class names, and what the user should know."""

    train: ImageFiles
    test: ImageFiles
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def class_folders(folder: Path) -> list[str]:
    """Names of the visible directories in a folder, sorted; links to directories count.

    Raises:
        DataNotFoundError: It does not exist, is no folder or may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except FileNotFoundError:
        raise DataNotFoundError(f"{shown(folder)}: no such folder.") from None
    except NotADirectoryError:
        raise DataNotFoundError(f"{shown(folder)}: a file, expected a folder.") from None
    except PermissionError:
        raise DataNotFoundError(f"{shown(folder)}: no permission to list it.") from None
    return sorted(found, key=os.fsencode)


def scan_folders(root: Path, test_share: float = 0.2) -> Folders:
    """List an ImageFolder tree; no image is opened.

    With `root/CLASS/...` alone, a class's files are sorted by path and every fifth (for the default
    `test_share`) is test: numbers 5, 10, ... of the list; a class of fewer than five gives its
    last. The split depends on the names only.

    Args:
        root: The folder.
        test_share: Share of the test set where the tree has none, above 0 and at most 0.5.

    Raises:
        DataNotFoundError: The folder is missing or holds no class folders.
        DataError: A class without images, or train and test classes that differ.
        ArgumentError: `test_share` is out of range.
    """
    if not 0 < test_share <= 0.5:
        raise ArgumentError(f"test_share must be above 0 and at most 0.5, got {test_share}.")
    top = class_folders(root)
    # A folder called "train" with images in it and no folders is a class of trains.
    train_name = next((n for n in TRAIN_NAMES if n in top and class_folders(root / n)), None)
    tests = [n for n in TEST_NAMES if n in top and class_folders(root / n)]
    notes: list[str] = []
    if train_name is None and tests:
        raise DataError(
            f"{shown(root)}: found {tests[0]!r} but no 'train' folder with class folders. "
            "Expected train/CLASS/... beside it."
        )
    if train_name is None or not tests:
        base = root / train_name if train_name else root
        classes, files = _classes(root, base, notes)
        train, test = _split(root, classes, files, test_share)
        notes.append(
            f"{shown(base)} has no test set beside it: {len(test):,} of its "
            f"{len(train) + len(test):,} images (a fixed {test_share:.0%} of each class) became it"
        )
        return Folders(train, test, tuple(map(shown, classes)), tuple(notes))
    classes, train_files = _classes(root, root / train_name, notes)
    test_classes, test_files = _classes(root, root / tests[0], notes)
    if classes != test_classes:
        raise DataError(
            f"{shown(root)}: the classes of {train_name!r} and {tests[0]!r} differ. "
            f"Only in {train_name}: {_listed(set(classes) - set(test_classes))}. "
            f"Only in {tests[0]}: {_listed(set(test_classes) - set(classes))}. "
            "Both need the same class folders."
        )
    if len(tests) > 1:
        notes.append(f"evaluating on {tests[0]!r}; {', '.join(map(repr, tests[1:]))} is not used")
    return Folders(
        _labelled(root, train_files),
        _labelled(root, test_files),
        tuple(map(shown, classes)),
        tuple(notes),
    )


def _classes(root: Path, base: Path, notes: list[str]) -> tuple[list[str], list[list[str]]]:
    """Class names and, for each, its image files below the root, sorted."""
    classes = class_folders(base)
    if not classes:
        raise DataNotFoundError(
            f"{shown(base)}: no class folders. Expected {shown(base)}/CLASS/image.jpg, one folder "
            "for each class."
        )
    files: list[list[str]] = []
    others: list[str] = []
    for name in classes:
        inside = sorted(_files(base / name, set()), key=os.fsencode)
        images = [p for p in inside if p.lower().endswith(IMAGE_SUFFIXES)]
        others += [p for p in inside if not p.lower().endswith(IMAGE_SUFFIXES)]
        files.append([os.path.relpath(p, root) for p in images])
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty:
        raise DataError(
            f"{shown(base)}: {len(empty)} of {len(classes)} class folders hold no image: "
            f"{_listed(empty)}. Add images ({', '.join(IMAGE_SUFFIXES)}) or remove the folder."
        )
    if others:
        notes.append(
            f"left out {len(others):,} files in {shown(base)} whose suffix is not an image's: "
            f"{_listed(os.path.relpath(p, base) for p in others)}"
        )
    return classes, files


def _files(folder: Path, above: set[str]) -> Iterator[str]:
    """Every visible file below a folder; links to folders are followed, circles are not."""
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot list it: {error.strerror}.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # A folder named like an image is no place for images: reading it will say what it is.
        if entry.is_dir() and not entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield from _files(Path(entry.path), above | {here})
        else:
            yield entry.path


def _labelled(root: Path, files: list[list[str]]) -> ImageFiles:
    labels = [label for label, found in enumerate(files) for _ in found]
    return ImageFiles(root, tuple(name for found in files for name in found), torch.tensor(labels))


def _split(
    root: Path, classes: list[str], files: list[list[str]], test_share: float
) -> tuple[ImageFiles, ImageFiles]:
    share = Fraction(test_share).limit_denominator(1000)
    train: list[list[str]] = []
    test: list[list[str]] = []
    for name, found in zip(classes, files, strict=True):
        if len(found) < 2:
            raise DataError(
                f"{shown(root)}: class {shown(name)!r} has a single image, which cannot be both "
                "training and test. Add images, or give train/ and val/ folders."
            )
        chosen = {i for i in range(len(found)) if (i + 1) * share // 1 > i * share // 1}
        chosen = chosen or {len(found) - 1}
        test.append([f for i, f in enumerate(found) if i in chosen])
        train.append([f for i, f in enumerate(found) if i not in chosen])
    return _labelled(root, train), _labelled(root, test)


def _listed(names: Iterator[str] | set[str] | list[str]) -> str:
    every = sorted(shown(n) for n in names)
    text = ", ".join(repr(n) for n in every[:_NAMED]) or "none"
    return text + (f" and {len(every) - _NAMED} more" if len(every) > _NAMED else "")
