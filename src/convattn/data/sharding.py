"""Any data written as shards, WebDataset's tar files: `convattn data shard`.

`formats/shards.py` reads them, and says what is in them.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from convattn.core.checks import check_choice, check_positive
from convattn.core.errors import ArgumentError
from convattn.core.files import write_atomic, write_json
from convattn.core.names import require
from convattn.core.seeds import permutation
from convattn.data import coco_masks
from convattn.data.check import DataTask, tasks_of
from convattn.data.classification import open_classification
from convattn.data.defects import OnBad, shifted
from convattn.data.detection import open_detection
from convattn.data.formats.shards import KIND, NOTE, SPLITS, VERSION, Shard
from convattn.data.images import IMAGE_SUFFIXES, shown
from convattn.data.samples import DetectionData, DetectionSet, SegmentationData, SegmentationSet
from convattn.data.segmentation import open_segmentation
from convattn.data.sets import ClassificationData, ImageSet
from convattn.data.sharded import key

__all__ = ["ShardReport", "shard_data"]

TASKS = ("classification", "detection", "instance", "segmentation")
_ORDER = 0  # seed of the order in which the samples of a split lie
Data = ClassificationData | DetectionData | SegmentationData


@dataclass(frozen=True)
class ShardReport:
    """What was written: by split, the samples and shards; and what was left out."""

    folder: Path
    task: str
    samples: tuple[int, int]
    shards: tuple[int, int]
    bytes: int
    skipped: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [
            f"{samples:,} {split}ing images in {shards:,} tar file{'s' * (shards > 1)}"
            for split, samples, shards in zip(SPLITS, self.samples, self.shards, strict=True)
        ]
        lines = [f"{self.task}: {', '.join(parts)}, {self.bytes / 1e6:,.1f} MB: {self.folder}"]
        return "\n".join([*lines, *(f"  left out {name}: {cause}" for name, cause in self.skipped)])


def shard_data(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    task: DataTask | None = None,
    *,
    max_mb: int = 256,
    on_bad: OnBad = "stop",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> ShardReport:
    """Write a source as shards, whole or not at all.

    Args:
        source: "scenes" or a folder, as for training.
        folder: New, or empty.
        task: What the shards are for; needed where the source serves several tasks. Those for
            instance segmentation serve detection and segmentation too.
        max_mb: Largest shard in 10^6 bytes; one with a single sample may be larger.
        on_bad: What to do about defects of the source, "stop" or "skip" (and report) them.
        progress: Called with (done, total), while the source is checked and again while writing.
        **options: The data's own, as for training (`data_args`).

    Raises:
        DataNotFoundError: There is nothing there that could be read.
        DataError: The source is unusable, or has defects and `on_bad` is "stop".
        ArgumentError: The folder is taken, the task must be given, or an option is none.
        OSError: It cannot be written; nothing is left behind.
    """
    target = Path(folder).expanduser().absolute()
    check_positive("shard_data", "max_mb", max_mb)
    if task is not None:
        check_choice("shard_data", "task", task, TASKS)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArgumentError(
            f"{shown(target)} is there already; give a folder that is new or empty."
        )
    data, task = _opened(source, task, {"on_bad": on_bad, "progress": progress, **options})
    total = len(data.train) + len(data.test)
    with _aside(target) as place:
        written = []
        for split, samples, before in (
            ("train", data.train, 0), ("test", data.test, len(data.train)),
        ):  # fmt: skip
            told = shifted(progress, before, total)
            written.append(_write_split(place, split, samples, _FILES[task], max_mb * 10**6, told))
        meta = {
            "kind": KIND,
            "version": VERSION,
            "task": task,
            "name": data.name,
            "format": getattr(data, "format", "images"),
            "classes": list(data.classes),
            "image_size": getattr(data, "image_size", None),
            "notes": [note for note in data.notes if not note.startswith(NOTE)],
            **{s: list(map(asdict, w)) for s, w in zip(SPLITS, written, strict=True)},
        }
        write_json(place / "meta.json", meta)
    return ShardReport(
        folder=target,
        task=task,
        samples=(len(data.train), len(data.test)),
        shards=(len(written[0]), len(written[1])),
        bytes=sum(shard.bytes for shards in written for shard in shards),
        skipped=tuple(data.skipped),
    )


def _opened(
    source: str | os.PathLike[str], task: DataTask | None, options: dict[str, Any]
) -> tuple[Data, DataTask]:
    """The source opened and checked, and the task, if it was not given."""
    serves = tasks_of(source)
    if task is None and len(serves) > 1:
        raise ArgumentError(
            f"{shown(source)} serves several tasks; give --task {' or '.join(serves)}."
        )
    chosen = task or serves[0]
    if chosen == "classification":
        return open_classification(source, **options), chosen
    if chosen == "segmentation":
        return open_segmentation(source, **options), chosen
    # masks are asked for by the task; where none is given, those that are there are taken
    data = open_detection(source, masks=chosen == "instance" if task else None, **options)
    return data, "instance" if data.masks else "detection"


def _write_split(
    root: Path,
    split: str,
    samples: Any,
    files_of: Callable[[Any, int], tuple[dict[str, bytes], int]],
    limit: int,
    progress: Callable[[int, int], None] | None,
) -> list[Shard]:
    """The shards of a split, its samples in a random order."""
    (root / split).mkdir()
    shards: list[Shard] = []
    writer = None
    for done, index in enumerate(permutation(len(samples), _ORDER), 1):
        files, value = files_of(samples, index)
        if writer is not None and writer.size_with(files) > limit:
            shards.append(writer.close())
            writer = None
        if writer is None:
            writer = _ShardWriter(root, f"{split}/{len(shards):06d}.tar")
        writer.add(index, files, value)
        if progress is not None:
            progress(done, len(samples))
    assert writer is not None  # no set is empty
    return [*shards, writer.close()]


class _ShardWriter:
    """One tar file and its index; the same samples give the same bytes."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.archive = tarfile.open(root / name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.keys: list[int] = []
        self.offsets = [0]
        self.values: list[int] = []

    def size_with(self, files: dict[str, bytes]) -> int:
        """Bytes of the finished file, were this sample the last."""
        blocks = sum(1 + -(-len(content) // tarfile.BLOCKSIZE) for content in files.values())
        end = self.offsets[-1] + (blocks + 2) * tarfile.BLOCKSIZE
        return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE

    def add(self, index: int, files: dict[str, bytes], value: int) -> None:
        """Append a sample."""
        for suffix, content in files.items():
            member = tarfile.TarInfo(key(index) + suffix)
            member.size = len(content)
            self.archive.addfile(member, io.BytesIO(content))
        self.keys.append(index)
        self.offsets.append(self.archive.offset)
        self.values.append(value)

    def close(self) -> Shard:
        """Finish the file; what `meta.json` says of it."""
        self.archive.close()
        path = self.root / self.name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file)
        index = json.dumps({"keys": self.keys, "offsets": self.offsets, "values": self.values})
        shard = Shard(
            name=self.name,
            samples=len(self.keys),
            bytes=path.stat().st_size,
            sha256=digest,
            index_sha256=hashlib.sha256(index.encode()).hexdigest(),
        )
        write_atomic(self.root / shard.index, index)
        return shard


def _labelled_image(samples: ImageSet, index: int) -> tuple[dict[str, bytes], int]:
    label = int(samples.labels[index])
    image = _image(samples.image_file(index), lambda: samples.image(index))
    return {**image, ".json": _json(name=samples.sample_id(index)), ".cls": b"%d" % label}, label


def _objects(samples: DetectionSet, index: int) -> tuple[dict[str, bytes], int]:
    found = samples.sample(index)
    notes = {
        "name": found.name,
        "image_id": found.image_id,
        "size": [*found.image.shape[1:]],
        "boxes": found.boxes.tolist(),
        "labels": found.labels.tolist(),
        "area": found.areas.tolist(),
        "iscrowd": found.crowd.tolist(),
        "difficult": found.difficult.tolist(),
        "ids": found.ids.tolist(),
    }
    if found.masks is not None:
        notes["masks"] = [coco_masks.encode(mask) for mask in found.masks]
    image = _image(samples.image_file(index), lambda: found.image)
    return {**image, ".json": _json(**notes)}, samples.objects(index)


def _label_map(samples: SegmentationSet, index: int) -> tuple[dict[str, bytes], int]:
    found = samples.sample(index)
    image = _image(samples.image_file(index), lambda: found.image)
    return {**image, ".json": _json(name=found.name), ".seg.png": _png(found.mask)}, 0


_FILES: dict[str, Callable[[Any, int], tuple[dict[str, bytes], int]]] = {
    "classification": _labelled_image,
    "detection": _objects,
    "instance": _objects,
    "segmentation": _label_map,
}


def _image(file: tuple[str, bytes] | None, pixels: Callable[[], Tensor]) -> dict[str, bytes]:
    """The image's file as it is, where it has one with an image's suffix, else a PNG."""
    if file is not None:
        suffix = os.path.splitext(file[0])[1].lower()
        if suffix in IMAGE_SUFFIXES:
            return {suffix: file[1]}
    return {".png": _png(pixels())}


def _png(pixels: Tensor) -> bytes:
    """A lossless picture of uint8 (3, H, W) or (H, W)."""
    image = require("PIL.Image", "train")
    buffer = io.BytesIO()
    rows = pixels.permute(1, 2, 0) if pixels.ndim == 3 else pixels
    image.fromarray(rows.contiguous().numpy()).save(buffer, "png")
    return buffer.getvalue()


def _json(**facts: Any) -> bytes:
    return json.dumps(facts).encode()


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target` that takes its name at the end: whole, or not there.

    What a killed writer left in it is removed by the next.
    """
    place = target.with_name(f".{target.name}.partial")
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArgumentError(
                f"another process is writing {shown(target)}; wait for it."
            ) from None
        try:
            for left in (place / split for split in SPLITS):
                shutil.rmtree(left, ignore_errors=True)
            yield place
            (place / ".lock").unlink()
            place.replace(target)
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if isinstance(error, OSError):
                cause = f"{error.strerror or error}; nothing was left behind"
                raise OSError(error.errno, cause, str(error.filename or target)) from error
            raise
