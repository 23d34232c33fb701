"""speedinghzl/CCNet: Criss-Cross Attention."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.cca import CCA

__all__ = ["SOURCES"]


def _criss_cross(in_dim: int, recurrence: int = 1) -> CCA:
    return CCA(in_dim, passes=recurrence)  # `recurrence` is an argument of their network


SOURCES = (
    Source(
        ("speedinghzl/CCNet:cc_attention/functions.py:CrissCrossAttention",),
        _criss_cross,
        keys=((r"(query|key|value)", r"\1_conv"),),
    ),
)
