"""Shards: data of any task as WebDataset's tar files, written by `convattn data shard`.

`meta.json`, and for each split `train/000000.tar`, ... with an index `000000.json` beside each: the
numbers of its samples, where each begins (and the last ends), and their labels or numbers of
objects. The samples lie in a random order, for whoever reads them one by one. Here they are read by
number, so the set is in the source's order, and training on it is training on the source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.data.defects import in_threads
from convattn.data.images import shown
from convattn.data.samples import DetectionData, SegmentationData
from convattn.data.sets import ClassificationData
from convattn.data.sharded import Located, ShardedImages, ShardedLabelMaps, ShardedObjects

__all__ = [
    "KIND",
    "NOTE",
    "SPLITS",
    "VERSION",
    "Shard",
    "open_images",
    "open_label_maps",
    "open_objects",
    "task_of",
]

KIND, VERSION = "convattn shards", 1
SPLITS = ("train", "test")
NOTE = "shards: "  # begins the note on their number, which is not handed on to others
_NAMED = 10  # how many shards a message lists
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shard:
    """One tar file, 'train/000000.tar', as `meta.json` describes it."""

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str

    @property
    def index(self) -> str:
        """The index beside it: 'train/000000.json'."""
        return f"{self.name.removesuffix('.tar')}.json"


@dataclass(frozen=True)
class _Meta:
    """What `meta.json` says."""

    name: str
    format: str
    classes: tuple[str, ...]
    image_size: int | None
    notes: tuple[str, ...]
    fingerprint: str
    train: Located
    test: Located


def task_of(folder: Path) -> str | None:
    """The task that the shards of a folder were written for; None if it holds no shards."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(meta.get("task")) if isinstance(meta, dict) and meta.get("kind") == KIND else None


def open_images(folder: Path, verify: bool, progress: Progress | None) -> ClassificationData:
    """Shards of labelled images.

    Raises:
        DataError: They are of another task, or a shard is missing or damaged; names it.
    """
    meta = _open(folder, ("classification",), verify, progress)
    return ClassificationData(
        name=meta.name,
        train=ShardedImages(meta.train),
        test=ShardedImages(meta.test),
        classes=meta.classes,
        fingerprint=meta.fingerprint,
        notes=meta.notes,
        image_size=meta.image_size,
    )


def open_objects(
    folder: Path, masks: bool | None, verify: bool, progress: Progress | None
) -> DetectionData:
    """Shards of images with boxes, and with masks if asked for (None: if they have any).

    Raises:
        DataError: As `open_images`, or they have no masks.
    """
    have = task_of(folder) == "instance"
    if masks and not have:
        raise DataError(
            f"{shown(folder)}: these shards have boxes without masks. Use --task detection, or "
            "write them again from data with masks."
        )
    meta = _open(folder, ("detection", "instance"), verify, progress)
    masks = have if masks is None else masks
    return DetectionData(
        name=meta.name,
        format=meta.format,
        train=ShardedObjects(meta.train, masks),
        test=ShardedObjects(meta.test, masks),
        classes=meta.classes,
        fingerprint=meta.fingerprint,
        masks=masks,
        notes=meta.notes,
    )


def open_label_maps(folder: Path, verify: bool, progress: Progress | None) -> SegmentationData:
    """Shards of images with label maps; raises `DataError` as `open_images`."""
    meta = _open(folder, ("segmentation",), verify, progress)
    return SegmentationData(
        name=meta.name,
        format=meta.format,
        train=ShardedLabelMaps(meta.train),
        test=ShardedLabelMaps(meta.test),
        classes=meta.classes,
        fingerprint=meta.fingerprint,
        notes=meta.notes,
    )


def _open(folder: Path, tasks: tuple[str, ...], verify: bool, progress: Progress | None) -> _Meta:
    path = shown(folder / "meta.json")
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        task, version = meta["task"], meta["version"]
        classes = tuple(map(str, meta["classes"]))
        train, test = ([Shard(**shard) for shard in meta[split]] for split in SPLITS)
        facts = {fact: meta[fact] for fact in ("name", "format", "image_size")}
        notes = tuple(map(str, meta["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no description of shards: {error!r}.") from error
    if version != VERSION:
        raise DataError(
            f"{path}: shards of version {version}, expected {VERSION}. Write them again with "
            "`convattn data shard`."
        )
    if task not in tasks:
        raise DataError(f"{shown(folder)}: shards for --task {task}, not {' or '.join(tasks)}.")
    _check(folder, [*train, *test], verify, progress)
    identity = [task, classes, [[s.sha256, s.index_sha256] for s in train + test], len(train)]
    return _Meta(
        **facts,
        classes=classes,
        notes=(*notes, f"{NOTE}{len(train):,} for training, {len(test):,} for testing"),
        fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        train=_located(folder, train),
        test=_located(folder, test),
    )


def _check(folder: Path, shards: list[Shard], verify: bool, progress: Progress | None) -> None:
    """Raise `DataError` naming each shard that is missing or not as `meta.json` says.

    None is ever left out: processes that lack other shards would train on other data.
    """

    def examine(number: int) -> str | None:
        shard = shards[number]
        try:
            size = (folder / shard.name).stat().st_size
            if size != shard.bytes:
                return f"{shard.name}: {size:,} bytes, expected {shard.bytes:,}"
            if verify and _sha256(folder / shard.name) != shard.sha256:
                return f"{shard.name}: its sha256 is not that of meta.json"
            if _sha256(folder / shard.index) != shard.index_sha256:
                return f"{shard.index}: its sha256 is not that of meta.json"
        except FileNotFoundError as error:
            return f"{Path(error.filename).relative_to(folder).as_posix()}: missing"
        except OSError as error:
            return f"{shard.name}: {error.strerror}"
        return None

    found = in_threads(examine, len(shards), progress=progress)
    bad = [cause for cause in found if cause is not None]
    if bad:
        lines = "".join(f"\n  {cause}" for cause in bad[:_NAMED])
        more = f"\n  and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{shown(folder)}: {len(bad):,} of {len(shards):,} shards cannot be used:{lines}{more}"
            "\nCopy them again from where they were written; shards are not left out, also not "
            "with --on_bad skip."
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _located(folder: Path, shards: list[Shard]) -> Located:
    """The samples of a split in the order of their numbers."""
    parts: list[Tensor] = []  # of each shard: int64 (4, n), number, start, end, value
    for shard in shards:
        index: dict[str, Any] = json.loads((folder / shard.index).read_bytes())
        offsets = torch.tensor(index["offsets"])
        rows = [
            torch.tensor(index["keys"]),
            offsets[:-1],
            offsets[1:],
            torch.tensor(index["values"]),
        ]
        parts.append(torch.stack(rows))
    keys, start, end, values = torch.cat(parts, 1)
    keys, order = keys.sort()
    if not torch.equal(keys, torch.arange(len(keys))):
        raise DataError(f"{shown(folder)}: its shards do not hold every sample once.")
    counts = torch.tensor([part.shape[1] for part in parts])
    which = torch.repeat_interleave(torch.arange(len(shards), dtype=torch.int32), counts)
    return Located(
        root=folder,
        shards=tuple(shard.name for shard in shards),
        shard=which[order],
        start=start[order],
        end=end[order],
        values=values[order],
    )
