"""Label maps from objects with masks: background is class 0, then the objects' classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from convattn.data.samples import IGNORED, DetectionData, DetectionSet, SegmentationSample

__all__ = ["SemanticView", "semantic_classes"]


def semantic_classes(data: DetectionData) -> tuple[str, ...]:
    """'background' before the classes of the objects."""
    return ("background", *data.classes)


@dataclass(frozen=True)
class SemanticView:
    """A `SegmentationSet` of a `DetectionSet` with masks.

    Where masks overlap the smaller object counts: the larger one would hide it. Crowds and
    difficult objects are ignored pixels.
    """

    objects: DetectionSet

    def __len__(self) -> int:
        return len(self.objects)

    def sample_id(self, index: int) -> str:
        """As the objects'."""
        return self.objects.sample_id(index)

    def image_file(self, index: int) -> tuple[str, bytes] | None:
        """As the objects'."""
        return self.objects.image_file(index)

    def sample(self, index: int) -> SegmentationSample:
        """Image and label map."""
        found = self.objects.sample(index)
        assert found.masks is not None
        mask = torch.zeros(found.image.shape[1:], dtype=torch.uint8)
        ignored = found.crowd | found.difficult
        for k in torch.argsort(found.masks.sum((1, 2)), descending=True, stable=True).tolist():
            value = IGNORED if ignored[k] else int(found.labels[k]) + 1
            mask[found.masks[k]] = value
        return SegmentationSample(found.image, mask, found.name)
