"""BangguWu/ECANet: Efficient Channel Attention without weight sharing."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.eca_ns import ECANS

__all__ = ["SOURCES"]


def _eca_layer(channel: int, k_size: int = 3) -> ECANS:
    return ECANS(channel, kernel_size=k_size)


SOURCES = (Source(("BangguWu/ECANet:models/eca_ns.py:eca_layer",), _eca_layer),)
