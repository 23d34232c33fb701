"""Pascal VOC: `JPEGImages`, `ImageSets`, and `Annotations` (boxes) or `SegmentationClass` (pixels).

A folder is one such tree, or holds several (`VOC2007`, `VOC2012`, also below `VOCdevkit`), which
are then one set. Boxes are 1-based and inclusive there: pixel columns xmin to xmax are, as edges,
xmin - 1 to xmax.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from convattn.core.errors import DataError, DataNotFoundError
from convattn.data.defects import Defect, Kind
from convattn.data.images import IMAGE_SUFFIXES, shown
from convattn.data.label_maps import Pair
from convattn.data.records import ObjectRecord, Record
from convattn.data.stores import Store, find_store

__all__ = [
    "CLASSES",
    "class_names",
    "is_official",
    "labelled",
    "lists_of",
    "read_boxes",
    "read_label_maps",
    "read_list",
    "trees",
]

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

_FLAG = re.compile(r"(?<=\S)\s+(-1|0|1)$")
_SUFFIX = re.compile(rf"(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})(?=\s|$)", re.IGNORECASE)


def trees(root: Path) -> list[Path]:
    """The VOC trees in a folder: itself, or its folders named VOC and a year."""
    if find_store(root, "JPEGImages") is not None:
        return [root]
    for above in (root, root / "VOCdevkit"):
        found = sorted(p for p in above.glob("VOC20[0-9][0-9]") if (p / "JPEGImages").exists())
        if found:
            return found
    return []


def is_official(tree: Path) -> bool:
    """Whether the folder's name says that it is the challenge's, with its twenty classes."""
    return re.fullmatch(r"VOC20\d\d", tree.resolve().name) is not None


def lists_of(tree: Path, task: str) -> list[str]:
    """Names of the lists of images for a task: 'Main' or 'Segmentation'."""
    store = find_store(tree, "ImageSets")
    names = store.names() if store is not None else []
    return [n[len(task) + 1 : -4] for n in names if n.startswith(f"{task}/") and n.endswith(".txt")]


def read_list(tree: Path, task: str, name: str) -> list[str]:
    """Image ids of a list, in its order.

    VOC's own lists of a class have -1, 0 or 1 behind each id; others have an image's file, or a
    second file behind that. Other dots and spaces are the id's.

    Raises:
        DataError: The list is unreadable, empty, or names an image twice.
    """
    store = find_store(tree, "ImageSets")
    assert store is not None
    file = f"{task}/{name}.txt"
    lines = store.read(file).decode("utf-8", "replace").splitlines()
    ids = [line.strip() for line in lines if line.strip()]
    if all(map(_FLAG.search, ids)):
        ids = [_FLAG.sub("", line) for line in ids]
    ids = [Path(_SUFFIX.split(line, maxsplit=1)[0]).name for line in ids]
    if not ids:
        raise DataError(f"{shown(tree)}: {store.shown(file)} lists no image.")
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError(f"{shown(tree)}: {store.shown(file)} names {twice!r} twice.")
    return ids


def read_boxes(tree: Path, ids: list[str]) -> tuple[tuple[Record, ...], list[Defect]]:
    """The images of a list with their objects, not labelled yet, and what is amiss.

    Raises:
        DataNotFoundError: The annotations are missing.
    """
    notes, images = find_store(tree, "Annotations"), find_store(tree, "JPEGImages")
    if notes is None or images is None:
        raise DataNotFoundError(f"{shown(tree)}: Annotations or JPEGImages is missing.")
    endings = _suffixes(images)
    records, defects = [], []
    for position, name in enumerate(ids):
        file = f"{name}.xml"
        kind: Kind = "unreadable annotation"
        try:
            size, objects = _parse(notes.read(file))
        except (DataError, ElementTree.ParseError, ValueError) as error:
            cause = str(error).removeprefix(f"{notes.shown(file)}: ")
            if "0 bytes" in cause:
                kind = "empty annotation"
            defects.append(Defect(notes.shown(file), kind, cause))
            continue
        picture = name + endings.get(name, ".jpg")
        records.append(Record(images, picture, position, size, objects))
    return tuple(records), defects


def read_label_maps(tree: Path, name: str) -> tuple[Pair, ...]:
    """Images and label maps of a list of 'Segmentation'; augmented lists take the augmented maps.

    Raises:
        DataNotFoundError: The label maps are missing.
    """
    images, plain = find_store(tree, "JPEGImages"), find_store(tree, "SegmentationClass")
    more = find_store(tree, "SegmentationClassAug") if "aug" in name else None
    first = more or plain
    if images is None or first is None:
        raise DataNotFoundError(f"{shown(tree)}: SegmentationClass or JPEGImages is missing.")
    endings = _suffixes(images)
    pairs = []
    for image in read_list(tree, "Segmentation", name):
        label = f"{image}.png"
        store = plain if plain is not None and label not in first and label in plain else first
        pairs.append(Pair(images, image + endings.get(image, ".jpg"), store, label))
    return tuple(pairs)


def _suffixes(images: Store) -> dict[str, str]:
    """The suffix of each image by its id: VOC's own are .jpg, others' are not."""
    parts = [name.rpartition(".") for name in images.names()]
    return {stem: f".{end}" for stem, _, end in parts if f".{end.lower()}" in IMAGE_SUFFIXES}


def _parse(text: bytes) -> tuple[tuple[int, int] | None, tuple[ObjectRecord, ...]]:
    """Size and objects of one file; raises ValueError if a field is missing or no number."""
    top = ElementTree.fromstring(text)
    width, height = (top.findtext(f"size/{side}", "0").strip() for side in ("width", "height"))
    size = (int(height), int(width)) if int(height) > 0 and int(width) > 0 else None
    objects = []
    # Children only: a person's hands and feet are <part> with a <bndbox> of their own.
    for number, found in enumerate(top.findall("object"), 1):
        edges = {}
        for edge in ("xmin", "ymin", "xmax", "ymax"):
            text_of = found.findtext(f"bndbox/{edge}")
            if text_of is None:
                raise ValueError(f"object {number} has no bndbox/{edge}")
            edges[edge] = float(text_of)
        x0, y0, x1, y1 = edges.values()
        # Inclusive columns 5 to 5 are one pixel wide, but nobody drew an object so: such a box is
        # a slip of the mouse, and is left without area for the check to find.
        if x0 < x1 and y0 < y1:
            x0, y0 = x0 - 1, y0 - 1
        objects.append(
            ObjectRecord(
                box=(x0, y0, x1, y1),
                label=None,
                class_name=found.findtext("name", "").strip(),
                difficult=found.findtext("difficult", "0").strip() == "1",
                number=number,
            )
        )
    return size, tuple(objects)


def class_names(records: tuple[Record, ...]) -> tuple[str, ...]:
    """The names that occur, sorted."""
    return tuple(sorted({found.class_name for record in records for found in record.objects}))


def labelled(records: tuple[Record, ...], classes: tuple[str, ...]) -> tuple[Record, ...]:
    """The same with each object's label: the index of its name, or None if there is no such."""
    index = {name: label for label, name in enumerate(classes)}
    return tuple(
        replace(
            record,
            objects=tuple(replace(o, label=index.get(o.class_name)) for o in record.objects),
        )
        for record in records
    )
