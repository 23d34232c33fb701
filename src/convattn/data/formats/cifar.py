"""The CIFAR-10 pack: a folder of lossless WebP mosaics of 10,000 pictures each, held in memory.

`meta.json` gives the class names and, for each file, the sha256 of its pixels (uint8, picture by
picture, rows, columns, RGB) and of its labels (uint8); both are verified on opening.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.core.names import require
from convattn.data.images import cause_of, read_image, shown

__all__ = ["PackedImages", "is_pack", "open_pack", "read_meta"]

SIDE, ACROSS = 32, 100
_FIELDS = ("n", "pixels_sha256", "labels_sha256")


@dataclass(frozen=True)
class PackedImages:
    """Pictures in memory: `images` uint8 (n, 3, 32, 32), `labels` int64 (n,)."""

    images: Tensor
    labels: Tensor
    files: tuple[tuple[str, int], ...]  # (mosaic, how many pictures are its first)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Tensor:
        """The pixels: uint8 (3, 32, 32); a view, copy before changing it in place."""
        return self.images[index]

    def image_file(self, index: int) -> None:
        """None: a file holds 10,000 pictures."""

    def sample_id(self, index: int) -> str:
        """Mosaic and tile: 'train_1/17'."""
        rest = index
        for name, count in self.files:
            if rest < count:
                return f"{name}/{rest}"
            rest -= count
        raise IndexError(f"picture {index} of {len(self)}")


def is_pack(folder: Path) -> bool:
    """Whether the folder's `meta.json` describes such a pack."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(meta, dict) and "layout" in meta and "files" in meta


def read_meta(folder: Path) -> dict[str, Any]:
    """`meta.json`, checked to have what is needed.

    Raises:
        DataError: A field is missing or of the wrong type.
    """
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text("utf-8"))
        classes, files = meta["classes"], meta["files"]
        complete = (
            isinstance(classes, list)
            and all(isinstance(c, str) for c in classes)
            and all(f in entry for entry in files.values() for f in _FIELDS)
            and all(isinstance(entry["n"], int) and entry["n"] > 0 for entry in files.values())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{shown(path)}: cannot be used: {error!r}.") from error
    if not complete:
        raise DataError(
            f"{shown(path)}: expected 'classes' (names) and for each of 'files' "
            f"{', '.join(_FIELDS)}."
        )
    return meta


def open_pack(
    folder: Path, train_count: int | None = None, test_count: int | None = None
) -> tuple[PackedImages, PackedImages, tuple[str, ...], tuple[str, ...]]:
    """Read the pack: training set, test set, class names, notes.

    The training set is every `train_k` that lies there, in order; the notes say which of those in
    `meta.json` do not. A count keeps the first so many pictures (each file is shuffled already).

    Raises:
        DataNotFoundError: There is no training or no test file.
        ArgumentError: A count is not 1 to the number of pictures.
        DataError: A file is damaged: its checksum, size or labels are not those of `meta.json`.
    """
    require("PIL.Image", "train")
    require("numpy", "train")
    meta = read_meta(folder)
    listed = sorted(n for n in meta["files"] if n.startswith("train"))
    present = [n for n in listed if (folder / f"{n}.webp").exists()]
    absent = [n for n in listed if n not in present]
    if not present or "test" not in meta["files"] or not (folder / "test.webp").exists():
        raise DataNotFoundError(
            f"{shown(folder)}: a pack needs test.webp and at least one of "
            f"{', '.join(f'{n}.webp' for n in listed) or 'train_1.webp'}; "
            f"found {', '.join(sorted(p.name for p in folder.glob('*.webp'))) or 'no .webp file'}."
        )
    notes: tuple[str, ...] = ()
    if absent:
        notes = (
            f"{shown(folder)} holds {len(present)} of {len(listed)} training files "
            f"(without {', '.join(absent)})",
        )
    train = _first(folder, meta, present, train_count, "train_count")
    test = _first(folder, meta, ["test"], test_count, "test_count")
    return train, test, tuple(meta["classes"]), notes


def _first(
    folder: Path, meta: dict[str, Any], names: list[str], count: int | None, option: str
) -> PackedImages:
    total = sum(meta["files"][n]["n"] for n in names)
    wanted = total if count is None else count
    if not 1 <= wanted <= total:
        raise ArgumentError(f"{option} must be 1 to {total:,} for {shown(folder)}, got {count}.")
    images, labels, files = [], [], []
    for name in names:
        if wanted == 0:
            break
        pixels, classes = _read(folder, name, meta["files"][name], len(meta["classes"]))
        taken = min(wanted, len(classes))
        images.append(pixels[:taken])
        labels.append(classes[:taken])
        files.append((name, taken))
        wanted -= taken
    return PackedImages(torch.cat(images), torch.cat(labels), tuple(files))


def _read(folder: Path, name: str, entry: dict[str, Any], classes: int) -> tuple[Tensor, Tensor]:
    """One mosaic and its labels, verified: uint8 (n, 3, 32, 32) and int64 (n,)."""
    path = folder / f"{name}.webp"
    mosaic = read_image(path)
    side = SIDE * ACROSS
    if tuple(mosaic.shape) != (3, side, side):
        raise DataError(
            f"{shown(path)}: {mosaic.shape[2]} x {mosaic.shape[1]} pixels, "
            f"expected {side} x {side}."
        )
    tiles = mosaic.view(3, ACROSS, SIDE, ACROSS, SIDE).permute(1, 3, 2, 4, 0)
    tiles = tiles.reshape(-1, SIDE, SIDE, 3)[: entry["n"]]
    _verify(path, tiles, entry["pixels_sha256"], "pixels")
    label_path = folder / f"{name}_labels.npy"
    labels = _labels(label_path)
    _verify(label_path, labels, entry["labels_sha256"], "labels")
    if len(labels) != len(tiles) or int(labels.max()) >= classes:
        raise DataError(
            f"{shown(label_path)}: {len(labels)} labels up to {int(labels.max())}; expected "
            f"{len(tiles)} in 0..{classes - 1}."
        )
    return tiles.permute(0, 3, 1, 2).contiguous(), labels.long()


def _labels(path: Path) -> Tensor:
    import numpy as np

    try:
        labels = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises several types for a damaged file
        raise DataError(f"{shown(path)}: {cause_of(error, path)}") from error
    if labels.dtype != np.uint8 or labels.ndim != 1 or not len(labels):
        raise DataError(
            f"{shown(path)}: {labels.dtype} of shape {labels.shape}, expected a list of uint8."
        )
    return torch.from_numpy(labels)


def _verify(path: Path, values: Tensor, expected: str, what: str) -> None:
    found = hashlib.sha256(values.numpy().tobytes()).hexdigest()
    if found != expected:
        raise DataError(
            f"{shown(path)}: its {what} are not those of meta.json (sha256 {found[:12]}..., "
            f"expected {str(expected)[:12]}...). The file is damaged or from another pack: "
            "fetch it again."
        )
