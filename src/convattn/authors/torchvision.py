"""pytorch/vision: the plain networks, for their pretrained weights."""

from __future__ import annotations

from convattn.authors._resnet import DEPTHS, resnet_builder
from convattn.authors._source import Source

__all__ = ["SOURCES"]

_MODELS = "pytorch/vision:torchvision/models"

SOURCES = tuple(
    Source((f"{_MODELS}/resnet.py:resnet{depth}",), resnet_builder(depth)) for depth in DEPTHS
)
