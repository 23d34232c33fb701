"""What happens to images between the data and the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convattn.core.names import require

__all__ = ["normalise", "test_transform", "train_transform"]

Transform = Callable[[Tensor], Tensor]

# mean and deviation of ImageNet's channels for images in 0..1, as torchvision and timm use them
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
TEST_CROP = 0.875  # share of the short side that the test crop keeps, 224 of 256


def train_transform(augment: str, size: int, native: bool) -> Transform:
    """uint8 (3, H, W) -> uint8 (3, size, size), with draws from PyTorch's generator.

    Args:
        augment: "none", "mirror", "light", "flip" or "imagenet"; see `TrainConfig`.
        size: side in pixels.
        native: the images have this size already.
    """
    v2 = require("torchvision.transforms.v2", "train")
    if augment == "imagenet":
        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    steps = [] if native else [test_transform(size, native)]
    if augment in ("light", "flip"):
        shift = min(max(1, size // 8), size - 1)  # a reflection has no more pixels than that
        steps.append(v2.RandomCrop(size, padding=shift, padding_mode="reflect"))
    if augment in ("mirror", "flip"):
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps) if steps else _unchanged


def test_transform(size: int, native: bool) -> Transform:
    """uint8 (3, H, W) -> uint8 (3, size, size): the short side resized, the centre cut out."""
    if native:
        return _unchanged
    v2 = require("torchvision.transforms.v2", "train")
    return v2.Compose([v2.Resize(round(size / TEST_CROP), antialias=True), v2.CenterCrop(size)])


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float of about zero mean and unit deviation, on the same device."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(STD, device=images.device).view(3, 1, 1) * 255
    return (images.float() - mean) / std


def _unchanged(image: Tensor) -> Tensor:
    return image
