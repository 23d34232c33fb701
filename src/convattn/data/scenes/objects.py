"""Digit scenes as data for detection and segmentation; every scene is drawn once and kept."""

from __future__ import annotations

import torch
from torch import Tensor

from convattn.data.samples import DetectionSample
from convattn.data.scenes.digit_scenes import DigitScenes

__all__ = ["SceneDetections"]


class SceneDetections:
    """A `DetectionSet` of digit scenes; `masks` gives each digit's visible pixels."""

    def __init__(self, scenes: DigitScenes, masks: bool) -> None:
        self.scenes = scenes
        self.masks = masks
        # Image, boxes, labels, and the digit (from 1) of each pixel: no pixel is of two digits,
        # so one map of a byte each keeps all masks.
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.scenes)

    def sample_id(self, index: int) -> str:
        """As the scenes': 'scenes/train/17'."""
        return self.scenes.sample_id(index)

    def image_file(self, index: int) -> None:
        """None: scenes are drawn."""

    def objects(self, index: int) -> int:
        """Number of digits."""
        return len(self._scene(index)[1])

    def sample(self, index: int) -> DetectionSample:
        """Image and digits."""
        image, boxes, labels, owner = self._scene(index)
        count = len(labels)
        none = torch.zeros(count, dtype=torch.bool)
        numbers = torch.arange(1, count + 1)
        pixels = (owner == numbers[:, None, None]).sum((1, 2))
        return DetectionSample(
            image=image,
            boxes=boxes,
            labels=labels,
            masks=owner == numbers[:, None, None] if self.masks else None,
            crowd=none,
            difficult=none,
            areas=pixels.float(),
            ids=numbers,
            image_id=index,
            name=self.sample_id(index),
        )

    def _scene(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if index not in self._kept:
            scene = self.scenes.scene(index)
            numbers = torch.arange(1, len(scene.labels) + 1, dtype=torch.uint8)
            owner = (scene.masks * numbers[:, None, None]).sum(0, dtype=torch.uint8)
            self._kept[index] = (scene.image, scene.boxes, scene.labels, owner)
        return self._kept[index]
