"""Samples in shards, read by number: what `formats/shards.py` returns.

In a shard the files of a sample lie one behind the other, named by its number: 000000017.jpg (or
another suffix), .json, and .cls or .seg.png.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.data import coco_masks
from convattn.data.images import IMAGE_SUFFIXES, decode_image, decode_labels
from convattn.data.samples import DetectionSample, SegmentationSample

__all__ = ["Located", "ShardedImages", "ShardedLabelMaps", "ShardedObjects", "key"]


def key(index: int) -> str:
    """The name of a sample's files, up to the first dot."""
    return f"{index:09d}"


@dataclass(frozen=True)
class Located:
    """Where the samples of a split lie.

    Attributes:
        root: Folder of the data.
        shards: Names of the tar files below it.
        shard: int32 (n,), which of them sample i is in.
        start: int64 (n,), its first byte there.
        end: int64 (n,), behind its last.
        values: int64 (n,), its label, or its number of objects that are not crowds.
    """

    root: Path
    shards: tuple[str, ...]
    shard: Tensor
    start: Tensor
    end: Tensor
    values: Tensor


@dataclass(frozen=True)
class _Sharded:
    """What the sets of all tasks have in common."""

    at: Located

    def __len__(self) -> int:
        return len(self.at.values)

    def sample_id(self, index: int) -> str:
        """Shard and key: 'train/000003.tar/000000017'."""
        return f"{self.at.shards[int(self.at.shard[index])]}/{key(index)}"

    def image_file(self, index: int) -> tuple[str, bytes]:
        """The image as it is stored."""
        return self._image(index, self._files(index))

    def _files(self, index: int) -> dict[str, bytes]:
        """The files of a sample by suffix."""
        path = self.at.root / self.at.shards[int(self.at.shard[index])]
        start, end = int(self.at.start[index]), int(self.at.end[index])
        found: dict[str, bytes] = {}
        try:
            # Opened anew each time: safe in threads, forks and pickles.
            with open(path, "rb") as file:
                file.seek(start)
                part = io.BytesIO(file.read(end - start))
            with tarfile.open(fileobj=part, mode="r:") as archive:
                for member in archive:
                    name, _, suffix = member.name.partition(".")
                    content = archive.extractfile(member)
                    if name == key(index) and content is not None:
                        found[f".{suffix}"] = content.read()
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DataError(f"{self.sample_id(index)}: cannot be read: {error}") from error
        if ".json" not in found:
            raise DataError(f"{self.sample_id(index)}: is not where the shard's index says")
        return found

    def _image(self, index: int, files: dict[str, bytes]) -> tuple[str, bytes]:
        for suffix, content in files.items():
            if suffix in IMAGE_SUFFIXES:
                return f"{key(index)}{suffix}", content
        raise DataError(f"{self.sample_id(index)}: has no image")


class ShardedImages(_Sharded):
    """An `ImageSet` in shards."""

    @property
    def labels(self) -> Tensor:
        """int64 (n,)."""
        return self.at.values

    def image(self, index: int) -> Tensor:
        """The pixels: uint8 (3, H, W)."""
        return decode_image(self.image_file(index)[1], self.sample_id(index))


@dataclass(frozen=True)
class ShardedObjects(_Sharded):
    """A `DetectionSet` in shards."""

    masks: bool

    def objects(self, index: int) -> int:
        """Number of objects that are not crowds."""
        return int(self.at.values[index])

    def sample(self, index: int) -> DetectionSample:
        """Image and objects."""
        files, name = self._files(index), self.sample_id(index)
        notes = json.loads(files[".json"])
        height, width = notes["size"]
        masks = None
        if self.masks:
            masks = torch.zeros(len(notes["masks"]), height, width, dtype=torch.bool)
            for mask, runs in zip(masks, notes["masks"], strict=True):
                mask.copy_(coco_masks.decode(runs, height, width))
        return DetectionSample(
            image=decode_image(self._image(index, files)[1], name, (height, width)),
            boxes=torch.tensor(notes["boxes"], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(notes["labels"], dtype=torch.int64),
            masks=masks,
            crowd=torch.tensor(notes["iscrowd"], dtype=torch.bool),
            difficult=torch.tensor(notes["difficult"], dtype=torch.bool),
            areas=torch.tensor(notes["area"], dtype=torch.float32),
            ids=torch.tensor(notes["ids"], dtype=torch.int64),
            image_id=notes["image_id"],
            name=name,
        )


class ShardedLabelMaps(_Sharded):
    """A `SegmentationSet` in shards."""

    def sample(self, index: int) -> SegmentationSample:
        """Image and label map."""
        files, name = self._files(index), self.sample_id(index)
        mask = decode_labels(files[".seg.png"], name)
        size = (mask.shape[0], mask.shape[1])
        image = decode_image(self._image(index, files)[1], name, size)
        return SegmentationSample(image, mask, name)
