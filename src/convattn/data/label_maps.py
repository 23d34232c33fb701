"""Images with label maps in files: what the formats' readers return, its check, and its reading."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.data.defects import Defect, in_threads
from convattn.data.images import decode_image, decode_labels
from convattn.data.samples import IGNORED, SegmentationSample
from convattn.data.stores import Store

__all__ = ["LabelledFiles", "Pair", "check_pairs", "fingerprint", "lookup"]

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and the file of its label map."""

    images: Store
    image: str
    labels: Store
    label: str

    @property
    def name(self) -> str:
        """The image, for messages."""
        return self.images.shown(self.image)


def lookup(classes: Mapping[int, int] | int, ignored: tuple[int, ...] = (IGNORED,)) -> Tensor:
    """What a stored value means: int16 (256,), a class, `IGNORED`, or -1 for no class.

    Args:
        classes: Stored value to class, or the number of classes if both are the same.
        ignored: Stored values that neither loss nor metrics count.
    """
    table = torch.full((256,), _UNKNOWN, dtype=torch.int16)
    pairs = enumerate(range(classes)) if isinstance(classes, int) else classes.items()
    for stored, label in pairs:
        table[stored] = label
    table[list(ignored)] = IGNORED
    return table


@dataclass(frozen=True)
class LabelledFiles:
    """A `SegmentationSet` of files, decoded when asked for; `table` is as `lookup` makes it."""

    pairs: tuple[Pair, ...]
    table: Tensor

    def __len__(self) -> int:
        return len(self.pairs)

    def sample_id(self, index: int) -> str:
        """The image file below the data's folder."""
        return self.pairs[index].name

    def image_file(self, index: int) -> tuple[str, bytes]:
        """The image as it is stored."""
        pair = self.pairs[index]
        return pair.image, pair.images.read(pair.image)

    def sample(self, index: int) -> SegmentationSample:
        """Image and label map; raises `DataError` if a file is unusable."""
        pair = self.pairs[index]
        stored = decode_labels(pair.labels.read(pair.label), pair.labels.shown(pair.label))
        size = (stored.shape[0], stored.shape[1])
        image = decode_image(pair.images.read(pair.image), pair.name, size)
        mask = self.table[stored.int()]
        if bool((mask == _UNKNOWN).any()):
            values = stored[mask == _UNKNOWN].unique().tolist()
            raise DataError(f"{pair.labels.shown(pair.label)}: values {values} are no class")
        return SegmentationSample(image, mask.to(torch.uint8), pair.name)

    def defect(self, index: int) -> Defect | None:
        """What is wrong with a pair, if anything."""
        pair = self.pairs[index]
        name = pair.labels.shown(pair.label)
        if pair.label not in pair.labels:
            return Defect(pair.name, "missing mask", f"there is no {name}")
        try:
            stored = decode_labels(pair.labels.read(pair.label), name)
        except DataError as error:
            return Defect(pair.name, "unreadable annotation", str(error))
        try:
            size = (stored.shape[0], stored.shape[1])
            decode_image(pair.images.read(pair.image), pair.name, size)
        except DataError as error:
            cause = str(error).removeprefix(f"{pair.name}: ")
            return Defect(pair.name, "unreadable image", cause)
        values = stored.unique().long()
        labels = self.table[values]
        if bool((labels == _UNKNOWN).any()):
            unknown = values[labels == _UNKNOWN].tolist()
            return Defect(pair.name, "unknown class", f"{name} has the values {unknown}")
        if bool((labels == IGNORED).all()):
            return Defect(pair.name, "empty annotation", f"{name} has only ignored pixels")
        return None


def check_pairs(
    files: LabelledFiles, progress: Callable[[int, int], None] | None = None
) -> tuple[LabelledFiles, list[Defect]]:
    """Decode every pair once; what is left, and what is wrong with the others."""
    found = list(in_threads(files.defect, len(files), progress=progress))
    pairs = tuple(p for p, defect in zip(files.pairs, found, strict=True) if defect is None)
    return LabelledFiles(pairs, files.table), [defect for defect in found if defect is not None]


def fingerprint(*splits: LabelledFiles) -> str:
    """sha256 over every split's names, file sizes and what stored values mean."""
    digest = hashlib.sha256()
    for number, files in enumerate(splits):
        digest.update(files.table.numpy().tobytes())
        for pair in files.pairs:
            sizes = pair.images.size(pair.image), pair.labels.size(pair.label)
            digest.update(f"{number}\0{pair.name}\0{sizes}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
