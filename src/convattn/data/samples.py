"""What every source of boxes, masks and label maps looks like to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from convattn.data.defects import Defect

__all__ = [
    "IGNORED",
    "DetectionData",
    "DetectionSample",
    "DetectionSet",
    "SegmentationData",
    "SegmentationSample",
    "SegmentationSet",
]

IGNORED = 255  # label of pixels that neither loss nor metrics count


@dataclass(frozen=True)
class DetectionSample:
    """An image with K objects.

    Attributes:
        image: uint8 (3, H, W), RGB.
        boxes: float32 (K, 4), x0 y0 x1 y1 in pixels (edges: a whole picture is 0 0 W H), inside
            the image and with area.
        labels: int64 (K,), indices of the class names; there is no background class.
        masks: bool (K, H, W), or None if masks were not asked for.
        crowd: bool (K,): many objects in one annotation. The COCO tools' rule is the rule here:
            not trained on, and in evaluation a region whose detections count neither way.
        difficult: bool (K,): VOC's flag; its evaluation leaves such objects out.
        areas: float32 (K,), in pixels: COCO's `area` if it is given, else that of the box.
        ids: int64 (K,), of the annotations; their number in the image where the format has none.
        image_id: The format's own, or the index.
        name: Printable, for messages.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor | None
    crowd: Tensor
    difficult: Tensor
    areas: Tensor
    ids: Tensor
    image_id: int
    name: str


@dataclass(frozen=True)
class SegmentationSample:
    """An image and the class of each of its pixels.

    Attributes:
        image: uint8 (3, H, W), RGB.
        mask: uint8 (H, W), indices of the class names, or `IGNORED`.
        name: Printable, for messages.
    """

    image: Tensor
    mask: Tensor
    name: str


class DetectionSet(Protocol):
    """Images with objects."""

    def __len__(self) -> int: ...

    def sample(self, index: int) -> DetectionSample:
        """Image and objects, decoded; do not change the tensors in place."""

    def sample_id(self, index: int) -> str:
        """A printable name for messages."""

    def image_file(self, index: int) -> tuple[str, bytes] | None:
        """The name and content of the image's file; None if it is not one file."""

    def objects(self, index: int) -> int:
        """Number of objects that are not crowds, without decoding."""


class SegmentationSet(Protocol):
    """Images with label maps."""

    def __len__(self) -> int: ...

    def sample(self, index: int) -> SegmentationSample:
        """Image and label map, decoded; do not change the tensors in place."""

    def sample_id(self, index: int) -> str:
        """A printable name for messages."""

    def image_file(self, index: int) -> tuple[str, bytes] | None:
        """The name and content of the image's file; None if it is not one file."""


@dataclass(frozen=True)
class DetectionData:
    """Two sets with the same classes.

    Attributes:
        name: The source, short.
        format: Of the files: 'coco', 'voc' or 'scenes'.
        train: Training images.
        test: Test images.
        classes: Class names; a label is an index of them.
        fingerprint: sha256 that changes when the data do.
        masks: Whether samples have masks.
        defects: What was left out.
        notes: What the user should be told.
    """

    name: str
    format: str
    train: DetectionSet
    test: DetectionSet
    classes: tuple[str, ...]
    fingerprint: str
    masks: bool
    defects: tuple[Defect, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(name, cause) of what was left out, as in `ClassificationData`."""
        return _pairs(self.defects)


@dataclass(frozen=True)
class SegmentationData:
    """Two sets with the same classes; attributes as in `DetectionData`."""

    name: str
    format: str
    train: SegmentationSet
    test: SegmentationSet
    classes: tuple[str, ...]
    fingerprint: str
    defects: tuple[Defect, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(name, cause) of what was left out, as in `ClassificationData`."""
        return _pairs(self.defects)


def _pairs(defects: tuple[Defect, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((defect.sample, f"{defect.kind}: {defect.cause}") for defect in defects)
