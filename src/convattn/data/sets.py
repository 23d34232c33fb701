"""What every source of classification data looks like to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["ClassificationData", "ImageSet"]


class ImageSet(Protocol):
    """Labelled images. `labels` is int64 (n,); images may differ in size."""

    @property
    def labels(self) -> Tensor:
        """int64 (n,), each an index of the class names."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Tensor:
        """uint8 (3, H, W), RGB; do not change it in place."""

    def sample_id(self, index: int) -> str:
        """A printable name for messages: a path, or 'scenes/train/17'."""

    def image_file(self, index: int) -> tuple[str, bytes] | None:
        """The name and content of the image's file; None if it is not one file."""


@dataclass(frozen=True)
class ClassificationData:
    """Two sets with the same classes.

    Attributes:
        name: The source, short.
        train: Training images.
        test: Test images.
        classes: Class names; a label is an index of them.
        fingerprint: sha256 that changes when the data do.
        skipped: (path, cause) of each file left out because it is damaged.
        notes: What the user should be told.
        image_size: Side in pixels if every image is known to be the same square, else None.
    """

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    fingerprint: str
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    image_size: int | None = None
