"""Jongchan/attention-module: the Convolutional Block Attention Module."""

from __future__ import annotations

from collections.abc import Sequence

from convattn.authors._source import Source
from convattn.blocks.cbam import CBAM

__all__ = ["SOURCES"]


def _cbam(
    gate_channels: int,
    reduction_ratio: int = 16,
    pool_types: Sequence[str] = ("avg", "max"),
    no_spatial: bool = False,
) -> CBAM:
    return CBAM(
        gate_channels, reduction=reduction_ratio, pools=tuple(pool_types), spatial=not no_spatial
    )


SOURCES = (
    Source(
        ("Jongchan/attention-module:MODELS/cbam.py:CBAM",),
        _cbam,
        keys=(
            (r"fc1", "ChannelGate.mlp.1"),
            (r"fc2", "ChannelGate.mlp.3"),
            (r"(conv|bn)\.", r"SpatialGate.spatial.\1."),
        ),
    ),
)
