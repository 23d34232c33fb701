"""CamVid as its users share it: two layouts of images and 8-bit label maps.

SegNet's: `train/`, `trainannot/`, `val/`, `valannot/`, ... with eleven classes and 11 for void.
The general one, for any data: `images/SPLIT/`, `labels/SPLIT/` and a `meta.json` with "classes"
(names) and "ignore_index" (one value or a list; default 255).
"""

from __future__ import annotations

import json
from pathlib import Path

from convattn.core.errors import DataError
from convattn.data.images import IMAGE_SUFFIXES, shown
from convattn.data.label_maps import Pair
from convattn.data.samples import IGNORED
from convattn.data.stores import find_store

__all__ = ["classes_of", "layout", "read"]

CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip
VOID = 11


def layout(root: Path) -> str | None:
    """'segnet', 'general' or None."""
    if all((root / name).is_dir() for name in ("train", "trainannot")):
        return "segnet"
    if (root / "meta.json").is_file() and all(find_store(root, n) for n in ("images", "labels")):
        return "general"
    return None


def classes_of(root: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names and the ignored values.

    Raises:
        DataError: `meta.json` does not say.
    """
    if layout(root) == "segnet":
        return CLASSES, (VOID, IGNORED)
    path = root / "meta.json"
    try:
        meta = json.loads(path.read_text("utf-8"))
        classes, ignored = meta["classes"], meta.get("ignore_index", IGNORED)
        values = tuple(ignored) if isinstance(ignored, list) else (ignored,)
        sound = all(isinstance(c, str) for c in classes) and 0 < len(classes) <= IGNORED
        sound = sound and all(isinstance(v, int) and 0 <= v <= 255 for v in values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{shown(path)}: cannot be used: {error!r}.") from error
    if not sound:
        raise DataError(
            f"{shown(path)}: expected 'classes' (1 to {IGNORED} names) and 'ignore_index' "
            f"(0 to 255); got {classes!r} and {ignored!r}."
        )
    return tuple(classes), (*values, IGNORED)


def read(root: Path, split: str) -> tuple[Pair, ...]:
    """The images of a split in the order of their names; none if it is not there."""
    if layout(root) == "segnet":
        images, labels, inside = find_store(root, split), find_store(root, f"{split}annot"), ""
    else:
        images, labels, inside = find_store(root, "images"), find_store(root, "labels"), f"{split}/"
    if images is None or labels is None:
        return ()
    names = [n for n in images.names() if n.startswith(inside)]
    return tuple(
        Pair(images, name, labels, f"{name.rpartition('.')[0]}.png")
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES)
    )
