"""serre-lab/gala_tpu: Global-and-Local Attention (TensorFlow; the key names are ours)."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.gala import GALA
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]

_VARIANTS = {"code": "authors", "sig": "linear", "tanh": "paper"}


def _gala(C: int, variant: str = "code") -> GALA:
    if variant not in _VARIANTS:
        raise ArgumentError(f"variant must be one of {', '.join(_VARIANTS)}; got {variant!r}")
    return GALA(C, variant=_VARIANTS[variant])


SOURCES = (Source(("serre-lab/gala_tpu:resnet_helpers.py:feature_attention_gala",), _gala),)
