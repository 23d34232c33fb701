"""iscyy/yoloair: the Global Attention Mechanism as it circulates."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.gam import GAM
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _gam(c1: int, c2: int, group: bool = True, rate: int = 4) -> GAM:
    if c1 != c2:  # accepted by their constructor, but their forward cannot multiply then
        raise ArgumentError(f"GAMAttention needs c2 == c1, got c1={c1}, c2={c2}")
    return GAM(c1, reduction=rate, grouped=group)


SOURCES = (
    Source(
        ("iscyy/yoloair:models/Models/Attention/GAMAttention.py:GAMAttention",),
        _gam,
        keys=(
            (r"fc1", "channel_attention.0"),
            (r"fc2", "channel_attention.2"),
            (r"conv1", "spatial_attention.0"),
            (r"bn1", "spatial_attention.1"),
            (r"conv2", "spatial_attention.3"),
            (r"bn2", "spatial_attention.4"),
        ),
    ),
)
