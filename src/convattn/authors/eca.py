"""BangguWu/ECANet: Efficient Channel Attention."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.eca import ECA

__all__ = ["SOURCES"]


def _eca_layer(channel: int, k_size: int = 3) -> ECA:
    return ECA(channel, kernel_size=k_size)


SOURCES = (Source(("BangguWu/ECANet:models/eca_module.py:eca_layer",), _eca_layer),)
