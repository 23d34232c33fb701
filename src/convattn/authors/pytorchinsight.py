"""implus/PytorchInsight: Spatial Group-wise Enhance."""

from __future__ import annotations

from torch import Tensor

from convattn.authors._source import Source
from convattn.blocks.sge import SGE

__all__ = ["SOURCES"]


def _sge(groups: int = 64) -> SGE:
    return SGE(None, groups=groups)  # the authors' class takes any number of channels


def _as_map(key: str, tensor: Tensor) -> Tensor:
    return tensor[None, :, None, None]


SOURCES = (
    Source(
        ("implus/PytorchInsight:classification/models/imagenet/resnet_sge.py:SpatialGroupEnhance",),
        _sge,
        shape=_as_map,
    ),
)
