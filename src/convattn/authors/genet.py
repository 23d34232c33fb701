"""hujie-frank/GENet (Caffe definitions), and the port of it in the SRM repository."""

from __future__ import annotations

from collections.abc import Sequence

from convattn.authors._source import Source, conv_shape
from convattn.blocks.ge import GE
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _minus(C: int, kind: str = "minus") -> GE:
    return _ge(kind, "minus", C)


def _theta(C: int, size: Sequence[int], kind: str = "theta") -> GE:
    return _ge(kind, "theta", C, size)


def _plus(C: int, size: Sequence[int], r: int = 16, kind: str = "plus") -> GE:
    return _ge(kind, "plus", C, size, r)


def _ge(kind: str, expected: str, C: int, size: Sequence[int] | None = None, r: int = 16) -> GE:
    if kind != expected:
        raise ArgumentError(f"this definition is of kind {expected!r}, got {kind!r}")
    mode = {"minus": "theta_minus", "theta": "theta", "plus": "theta_plus"}[kind]
    return GE(C, mode=mode, size=None if size is None else tuple(size), reduction=r)


def _srm_port(channel: int, layer_idx: int) -> GE:
    if layer_idx not in (1, 2, 3, 4):
        raise ArgumentError(f"layer_idx must be 1, 2, 3 or 4, got {layer_idx!r}")
    side = 112 >> layer_idx  # 56, 28, 14, 7
    return GE(channel, mode="theta", size=(side, side), bias=True)


_KEYS = ((r"gather\.0", "gather"), (r"gather_bn\.0", "gather_bn"))
_SRM = "hyunjaelee410/style-based-recalibration-module:models/recalibration_modules.py"

SOURCES = (
    Source(("hujie-frank/GENet:models/RN50-GEPF.prototxt:-",), _minus),
    Source(("hujie-frank/GENet:models/RN50-GEP.prototxt:-",), _theta, keys=_KEYS),
    Source(("hujie-frank/GENet:models/RN50-GEPP.prototxt:-",), _plus, keys=_KEYS, shape=conv_shape),
    Source(
        (f"{_SRM}:GELayer",),
        _srm_port,
        keys=((r"gather\.0", "conv.0"), (r"gather_bn\.0", "conv.1")),
    ),
)
