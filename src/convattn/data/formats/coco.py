"""COCO's JSON: `instances_train2017.json` or `train.json`, in `annotations/` or beside the images.

Also Roboflow's form of it, `train/_annotations.coco.json` with the images in the same folder.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convattn.core.errors import DataError, DataNotFoundError
from convattn.data.defects import Defect, Kind
from convattn.data.images import shown
from convattn.data.records import ObjectRecord, Record
from convattn.data.stores import Store, find_store

__all__ = ["Split", "read", "splits"]

_NAME = re.compile(r"(?:instances_)?((train|valid|validation|val|test)[\w-]*)\.json")
_FOLDER_NAME = "_annotations.coco.json"


@dataclass(frozen=True)
class Split:
    """One annotation file: `kind` is 'train', 'val' or 'test', `name` such as 'train2017'."""

    kind: str
    name: str
    path: Path


def splits(root: Path) -> list[Split]:
    """The annotation files of a folder, by kind; of one kind the last by name comes first."""
    found = []
    for folder in (root / "annotations", root):
        for path in sorted(folder.glob("*.json"), reverse=True):
            match = _NAME.fullmatch(path.name)
            if match:
                found.append(Split(_kind(match[2]), match[1], path))
    for path in sorted(root.glob(f"*/{_FOLDER_NAME}")):
        if path.parent.name in ("train", "valid", "validation", "val", "test"):
            found.append(Split(_kind(path.parent.name), path.parent.name, path))
    return found


def _kind(word: str) -> str:
    return "val" if word.startswith("val") else word


def read(root: Path, split: Split) -> tuple[tuple[Record, ...], dict[int, str], list[Defect]]:
    """One annotation file: images in its order, class names by category id, and what is amiss.

    Labels count the categories in the order of their ids.

    Raises:
        DataError: The file is no COCO annotation.
        DataNotFoundError: The images are nowhere.
    """
    content = _content(split.path)
    names = {c["id"]: str(c["name"]) for c in content["categories"]}
    if len(names) != len(content["categories"]) or len(set(names.values())) != len(names):
        raise DataError(f"{shown(split.path)}: two categories have the same id or name.")
    labels = {number: label for label, number in enumerate(sorted(names))}
    images = {image["id"]: image for image in content["images"]}
    if len(images) != len(content["images"]):
        raise DataError(f"{shown(split.path)}: two images have the same id.")

    objects: dict[Any, list[ObjectRecord]] = defaultdict(list)
    defects = []
    file = shown(split.path.relative_to(root))
    for position, note in enumerate(content["annotations"]):
        note = note if isinstance(note, dict) else {}
        where = note.get("image_id")
        if not _is_whole(where) or where not in images:
            cause = "no image has its image_id"
            number = note.get("id", position)
            defects.append(Defect(f"{file}, annotation {number}", "unknown image", cause))
            continue
        objects[where].append(_object(note, position, labels, names))
    store = _images(root, split, [image["file_name"] for image in content["images"][:20]])
    records = tuple(
        Record(
            store=store,
            file=image["file_name"],
            image_id=int(number),
            size=(image["height"], image["width"]),
            objects=tuple(objects[number]),
        )
        for number, image in images.items()
    )
    return records, names, defects


def _object(
    note: dict[str, Any], position: int, labels: dict[int, int], names: dict[int, str]
) -> ObjectRecord:
    """An annotation as an object, if only one with a defect."""
    number, category = note.get("id", position), note.get("category_id")
    area, crowd = note.get("area"), note.get("iscrowd")
    box: Any = note.get("bbox")
    readable = {
        "id": _is_whole(number),
        "category_id": _is_whole(category),
        "bbox": isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)),
        "area": area is None or _is_number(area),
        "iscrowd": crowd in (None, 0, 1),
    }
    wrong = [f"{key} is {note.get(key)!r}" for key, fine in readable.items() if not fine]
    defect: tuple[Kind, str] | None = None
    if wrong:
        defect = ("unreadable annotation" if box else "empty annotation", ", ".join(wrong))
    elif area is not None and not 0 < area < math.inf:
        defect = ("box without area", f"area is {area:g}")
    x, y, width, height = map(float, box if readable["bbox"] else [0] * 4)
    known: Any = category if readable["category_id"] else None
    return ObjectRecord(
        box=(x, y, x + width, y + height),
        label=labels.get(known),
        class_name=names.get(known, f"category_id {category}"),
        mask=note.get("segmentation"),
        crowd=crowd == 1,
        area=float(area) if area is not None and readable["area"] else None,
        number=int(number) if readable["id"] else 0,
        defect=defect,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and float(value).is_integer()


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        for image in content["images"]:
            for key, kind in (("id", int), ("file_name", str), ("height", int), ("width", int)):
                if not isinstance(image[key], kind):
                    raise TypeError(f"image with {key} {image[key]!r}")
        for category in content["categories"]:
            if not isinstance(category["id"], int) or "name" not in category:
                raise TypeError(f"category {category!r}")
        if not isinstance(content["annotations"], list):
            raise TypeError("'annotations' is not a list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{shown(path)}: no COCO annotations: {error!r}. Expected 'images' (id, file_name, "
            "height, width), 'categories' (id, name) and 'annotations'."
        ) from error
    if not content["images"]:
        raise DataError(f"{shown(path)}: lists no image.")
    return content


def _images(root: Path, split: Split, first: list[str]) -> Store:
    """Where the images of a split are: the first place that has one of the first files."""
    if split.path.name == _FOLDER_NAME:
        places = [split.name]
    else:
        kinds = [split.name, split.kind]
        places = [p for k in kinds for p in (k, f"images/{k}", f"images_{k}")] + ["images", "."]
    for place in places:
        store = find_store(root, place)
        if store is not None and any(name in store for name in first):
            return store
    raise DataNotFoundError(
        f"{shown(split.path)} lists {first[0]!r}, which is in none of "
        f"{', '.join(places)} (folders or .tar files) of {shown(root)}."
    )
