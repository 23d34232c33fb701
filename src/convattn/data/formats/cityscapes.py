"""Cityscapes: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and, below `gtFine`, `*_labelIds.png`.

Stored are the 34 label ids; 19 of them are evaluated, the others ignored.
"""

from __future__ import annotations

from pathlib import Path

from convattn.data.label_maps import Pair, lookup
from convattn.data.stores import find_store

__all__ = ["CLASSES", "TABLE", "found_in", "read"]

_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip
CLASSES = tuple(_IDS)
_STORED = range(34)
TABLE = lookup(
    {stored: label for label, stored in enumerate(_IDS.values())},
    ignored=(*(i for i in _STORED if i not in _IDS.values()), 255),
)
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


def found_in(root: Path) -> bool:
    """Whether the folder is laid out so."""
    return all(find_store(root, name) is not None for name in ("leftImg8bit", "gtFine"))


def read(root: Path, split: str) -> tuple[Pair, ...]:
    """The images of 'train', 'val' or 'test', by city and name."""
    images, labels = find_store(root, "leftImg8bit"), find_store(root, "gtFine")
    assert images is not None
    assert labels is not None
    stems = [n[: -len(_IMAGE)] for n in images.names() if n.endswith(_IMAGE)]
    return tuple(
        Pair(images, stem + _IMAGE, labels, stem + _LABEL)
        for stem in stems
        if stem.startswith(f"{split}/")
    )
