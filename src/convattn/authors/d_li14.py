"""d-li14/mobilenetv2.pytorch: the plain MobileNetV2, from which the CA authors' descends."""

from __future__ import annotations

from torch import nn

from convattn.authors._mobilenet_v2 import flat_keys
from convattn.authors._source import Source
from convattn.models import create_model

__all__ = ["SOURCES"]


def _mobilenetv2(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    return create_model("mobilenet_v2", num_classes=num_classes, width_mult=width_mult, dropout=0.0)


SOURCES = (
    Source(
        ("d-li14/mobilenetv2.pytorch:models/imagenet/mobilenetv2.py:mobilenetv2",),
        _mobilenetv2,
        keys=flat_keys(attention=False, classifier="classifier"),
    ),
)
