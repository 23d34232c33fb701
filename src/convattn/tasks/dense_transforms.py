"""What happens to images with boxes, masks or label maps between the data and the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convattn.core.names import require
from convattn.data.samples import IGNORED, DetectionSample, SegmentationSample
from convattn.tasks.transforms import MEAN

__all__ = ["MapTransform", "ObjectTransform", "map_transform", "object_transform"]

MapTransform = Callable[[SegmentationSample], tuple[Tensor, Tensor]]
ObjectTransform = Callable[[DetectionSample], tuple[Tensor, dict[str, Tensor]]]
_FILL = tuple(round(255 * value) for value in MEAN)  # zero for the network


def map_transform(augment: str, size: int) -> MapTransform:
    """A sample -> image and label map, both with sides `size`, drawn from PyTorch.

    Args:
        augment: "none" (resized so that the short side fits, the centre cut out), "mirror" (that
            and mirroring), "light" (scaled by 0.5 to 2, a crop), "flip" (that and mirroring) or
            "imagenet" (and photometric distortion).
        size: side in pixels.
    """
    v2 = require("torchvision.transforms.v2", "train")
    tensors = require("torchvision.tv_tensors", "train")
    fill = {tensors.Image: _FILL, tensors.Mask: IGNORED}
    steps: list[Any] = []
    if augment in ("none", "mirror"):
        steps += [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    else:
        steps += [
            v2.RandomShortestSize(size, 8 * size, antialias=True),
            v2.ScaleJitter((size, size), (0.5, 2.0), antialias=True),
            v2.RandomCrop(size, pad_if_needed=True, fill=fill),
        ]
    if augment in ("mirror", "flip", "imagenet"):
        steps.append(v2.RandomHorizontalFlip())
    if augment == "imagenet":
        steps.append(v2.RandomPhotometricDistort())
    compose = v2.Compose(steps)

    def transform(sample: SegmentationSample) -> tuple[Tensor, Tensor]:
        found, labels = compose(tensors.Image(sample.image), tensors.Mask(sample.mask))
        return found.as_subclass(Tensor), labels.as_subclass(Tensor)

    return transform


def object_transform(augment: str) -> ObjectTransform:
    """A sample -> uint8 image and target for torchvision's detectors, drawn from PyTorch.

    Crowds and difficult objects are left out of training. The target's "draw" is a seed for what a
    detector draws for this image.

    Args:
        augment: "none"; "mirror" (mirroring alone, as R-CNNs and RetinaNet are trained); "light"
            (SSD's zooming out and crops by overlap); "flip" (those and mirroring); "imagenet"
            (those and photometric distortion: all of SSD's).
    """
    v2 = require("torchvision.transforms.v2", "train")
    tensors = require("torchvision.tv_tensors", "train")
    steps: list[Any] = []
    if augment == "imagenet":
        steps.append(v2.RandomPhotometricDistort())
    if augment not in ("none", "mirror"):
        steps += [v2.RandomZoomOut(fill={tensors.Image: _FILL, "others": 0}), v2.RandomIoUCrop()]
    if augment in ("mirror", "flip", "imagenet"):
        steps.append(v2.RandomHorizontalFlip())
    compose = v2.Compose([*steps, v2.SanitizeBoundingBoxes()])

    def transform(sample: DetectionSample) -> tuple[Tensor, dict[str, Tensor]]:
        used = ~(sample.crowd | sample.difficult)
        height, width = sample.image.shape[1:]
        boxes = tensors.BoundingBoxes(
            sample.boxes[used], format="XYXY", canvas_size=(height, width)
        )
        target: dict[str, Any] = {"boxes": boxes, "labels": sample.labels[used]}
        if sample.masks is not None:
            target["masks"] = tensors.Mask(sample.masks[used].to(torch.uint8))
        image, target = compose(tensors.Image(sample.image), target)
        plain = {name: value.as_subclass(Tensor) for name, value in target.items()}
        plain["draw"] = torch.randint(2**62, ())
        return image.as_subclass(Tensor), plain

    return transform
