"""Tiny data with boxes, masks and label maps, written by hand in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oracles import SHARED

__all__ = ["REAL", "coco", "coco_note", "label_map", "photo", "voc", "voc_object", "voc_xml"]

REAL = SHARED / "data"


def photo(path: Path, width: int, height: int, seed: int = 0) -> torch.Tensor:
    """Write a lossless picture of noise; its pixels come back as uint8 (3, H, W)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def label_map(path: Path, rows: list[list[int]], palette: bool = False) -> None:
    """Write class numbers as an 8-bit picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(rows, dtype=np.uint8))
    if palette:
        image = image.convert("P")
        image.putpalette([(7 * k) % 256 for k in range(768)])
    image.save(path)


def coco_note(
    number: int, image: int, category: int, box: list[float], **more: Any
) -> dict[str, Any]:
    """One annotation; the segmentation is the box's outline unless given."""
    x, y, w, h = box if len(box) == 4 else (0, 0, 0, 0)
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    note = {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0,
            "area": w * h, "segmentation": outline}  # fmt: skip
    return note | more


def coco(root: Path, notes: list[dict[str, Any]], images: int = 2) -> Path:
    """A COCO folder: `images` pictures of 8 x 6 for training with the notes, one for testing."""
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    for split, count, chosen in (
        ("train", images, notes),
        ("val", 1, [coco_note(1, 1, 7, [0, 0, 8, 6])]),
    ):
        files = [
            {"id": k + 1, "file_name": f"{k}.png", "height": 6, "width": 8} for k in range(count)
        ]
        for k, file in enumerate(files):
            photo(root / split / str(file["file_name"]), 8, 6, k)
        (root / "annotations").mkdir(exist_ok=True)
        content = {"images": files, "categories": categories, "annotations": chosen}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def voc_object(name: str, x0: float, y0: float, x1: float, y1: float, difficult: int = 0) -> str:
    """One <object>, with a part inside that has a box of its own."""
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"{box.format(x0, y0, x1, y1)}"
        f"<part><name>head</name>{box.format(1, 1, 2, 2)}</part></object>"
    )


def voc_xml(width: int, height: int, *objects: str) -> str:
    """The text of an annotation file."""
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def voc(root: Path, notes: dict[str, str], lists: dict[str, list[str]]) -> Path:
    """A VOC tree: pictures of 8 x 6 for all ids in the lists, the XML given, the lists of Main."""
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, text in notes.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
    for name, ids in lists.items():
        (root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))
        for k, each in enumerate(ids):
            photo(root / "JPEGImages" / f"{each}.png", 8, 6, k)
    return root
