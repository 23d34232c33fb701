"""ai-med/squeeze_and_excitation: concurrent spatial and channel squeeze and excitation."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.scse import ScSE

__all__ = ["SOURCES"]


def _channel_spatial(num_channels: int, reduction_ratio: int = 2) -> ScSE:
    return ScSE(num_channels, reduction=reduction_ratio)


SOURCES = (
    Source(
        (
            "ai-med/squeeze_and_excitation:squeeze_and_excitation/squeeze_and_excitation.py:"
            "ChannelSpatialSELayer",
        ),
        _channel_spatial,
        keys=((r"fc", "cSE.fc"), (r"conv", "sSE.conv")),
    ),
)
