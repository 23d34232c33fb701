"""Annotated image files: what the formats' readers return, its check, and its reading.

A reader says what the files say. Whether that makes sense is checked here, for all formats alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.data import coco_masks
from convattn.data.defects import Defect, Kind, in_threads
from convattn.data.images import decode_image
from convattn.data.samples import DetectionSample
from convattn.data.stores import Store

__all__ = ["ObjectRecord", "Record", "RecordedDetections", "check_records", "fingerprint"]

OVERHANG = 1.0  # pixels that a box may lie outside by rounding; it is cut


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """An object as its file has it.

    Attributes:
        box: x0, y0, x1, y1 in pixels.
        label: Index of the class, or None if the data's classes have no such name.
        class_name: As written.
        mask: COCO's `segmentation`, or None.
        crowd, difficult: The formats' flags.
        area: COCO's, or None.
        number: Annotation id.
        defect: What the reader could not make sense of, or None.
    """

    box: tuple[float, float, float, float]
    label: int | None
    class_name: str
    mask: Any = None
    crowd: bool = False
    difficult: bool = False
    area: float | None = None
    number: int = 0
    defect: tuple[Kind, str] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An image file with its objects; `size` is the (height, width) that the annotation is for."""

    store: Store
    file: str
    image_id: int
    size: tuple[int, int] | None
    objects: tuple[ObjectRecord, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return self.store.shown(self.file)


@dataclass(frozen=True)
class RecordedDetections:
    """A `DetectionSet` of checked records, decoded when asked for."""

    records: tuple[Record, ...]
    masks: bool

    def __len__(self) -> int:
        return len(self.records)

    def sample_id(self, index: int) -> str:
        """The file below the data's folder."""
        return self.records[index].name

    def image_file(self, index: int) -> tuple[str, bytes]:
        """The image as it is stored."""
        record = self.records[index]
        return record.file, record.store.read(record.file)

    def objects(self, index: int) -> int:
        """Number of objects that are not crowds."""
        return sum(not found.crowd for found in self.records[index].objects)

    def sample(self, index: int) -> DetectionSample:
        """Image and objects; raises `DataError` if the file has become unreadable."""
        record = self.records[index]
        image = decode_image(record.store.read(record.file), record.name, record.size)
        found = record.objects
        height, width = image.shape[1:]
        boxes = torch.tensor([o.box for o in found], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        sides = boxes[:, 2:] - boxes[:, :2]
        areas = [float(s.prod()) if o.area is None else o.area for o, s in zip(found, sides)]  # noqa: B905
        masks: Tensor | None = None
        if self.masks:
            masks = torch.zeros(len(found), height, width, dtype=torch.bool)
            for k, each in enumerate(found):
                masks[k] = coco_masks.decode(each.mask, height, width)
        return DetectionSample(
            image=image,
            boxes=boxes,
            labels=torch.tensor([o.label for o in found], dtype=torch.int64),
            masks=masks,
            crowd=torch.tensor([o.crowd for o in found], dtype=torch.bool),
            difficult=torch.tensor([o.difficult for o in found], dtype=torch.bool),
            areas=torch.tensor(areas, dtype=torch.float32),
            ids=torch.tensor([o.number for o in found], dtype=torch.int64),
            image_id=record.image_id,
            name=record.name,
        )


def check_records(
    records: tuple[Record, ...],
    masks: bool,
    *,
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Record, ...], list[Defect]]:
    """Sort out what cannot be used.

    An object with a defect is left out; an image goes with it if it cannot be read, or if no
    object is left to it. Images that never had an object stay.

    Args:
        records: What a reader returned.
        masks: Whether each object needs a mask.
        verify: Decode every image and mask.
        progress: Called with (done, total).
    """

    def examine(index: int) -> tuple[Record | None, list[Defect]]:
        return _examine(records[index], masks, verify)

    good: list[Record] = []
    defects: list[Defect] = []
    for record, found in in_threads(examine, len(records), progress=progress):
        defects += found
        if record is not None:
            good.append(record)
    return tuple(good), defects


def _examine(record: Record, masks: bool, verify: bool) -> tuple[Record | None, list[Defect]]:
    size = record.size
    if verify:
        try:
            image = decode_image(record.store.read(record.file), record.name, size)
        except DataError as error:
            cause = str(error).removeprefix(f"{record.name}: ")
            return None, [Defect(record.name, "unreadable image", cause)]
        size = (image.shape[1], image.shape[2])
    kept, defects = [], []
    for number, found in enumerate(record.objects):
        wrong = _box_defect(found, size) or (masks and _mask_defect(found, size, verify)) or None
        if wrong is None:
            kept.append(found)
        else:
            kind, cause = wrong
            which = f"annotation {found.number}" if found.number else f"object {number + 1}"
            text = f"{which} ({found.class_name}): {cause}"
            defects.append(Defect(record.name, kind, text))
    if record.objects and not kept:
        return None, defects
    return replace(record, size=size, objects=tuple(kept)), defects


def _box_defect(found: ObjectRecord, size: tuple[int, int] | None) -> tuple[Kind, str] | None:
    if found.defect is not None:
        return found.defect
    x0, y0, x1, y1 = found.box
    box = f"box x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
    if found.label is None:
        return "unknown class", f"the classes have no {found.class_name!r}"
    if not all(map(math.isfinite, found.box)):
        return "box without area", box
    if size is not None:
        height, width = size
        lowest, highest = min(x0, y0), max(x1 - width, y1 - height)
        if lowest < -OVERHANG or highest > OVERHANG:
            return "box outside the image", f"{box}; the image is {width} x {height}"
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x1 <= x0 or y1 <= y0:
        return "box without area", box
    return None


def _mask_defect(
    found: ObjectRecord, size: tuple[int, int] | None, verify: bool
) -> tuple[Kind, str] | None:
    if not found.mask:
        return "missing mask", "no segmentation"
    if verify and size is not None:
        try:
            if not coco_masks.decode(found.mask, *size).any():
                return "missing mask", "the segmentation has no pixel"
        except DataError as error:
            return "missing mask", str(error)
    return None


def fingerprint(*splits: tuple[Record, ...]) -> str:
    """sha256 over every split's image names, file sizes and objects."""
    digest = hashlib.sha256()
    for number, records in enumerate(splits):
        for record in records:
            facts = [(o.box, o.label, o.crowd, o.difficult, o.area) for o in record.objects]
            size = record.store.size(record.file)
            line = f"{number}\0{record.name}\0{record.image_id}\0{size}\0{facts}\n"
            digest.update(line.encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
