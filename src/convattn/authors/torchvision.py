"""pytorch/vision: the plain networks, for their pretrained weights."""

from __future__ import annotations

from torch import nn

from convattn.authors._mobilenet_v2 import nested_keys
from convattn.authors._resnet import DEPTHS, resnet_builder
from convattn.authors._source import Source
from convattn.models import create_model

__all__ = ["SOURCES"]

_MODELS = "pytorch/vision:torchvision/models"


def _mobilenet_v2(
    num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2
) -> nn.Module:
    return create_model(
        "mobilenet_v2", num_classes=num_classes, width_mult=width_mult, dropout=dropout
    )


SOURCES = (
    *(Source((f"{_MODELS}/resnet.py:resnet{depth}",), resnet_builder(depth)) for depth in DEPTHS),
    Source((f"{_MODELS}/mobilenetv2.py:mobilenet_v2",), _mobilenet_v2, keys=nested_keys()),
)
