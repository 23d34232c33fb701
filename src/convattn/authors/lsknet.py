"""zcablii/LSKNet: the Large Selective Kernel unit."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.lsk import LSK

__all__ = ["SOURCES"]


def _lsk(dim: int) -> LSK:
    return LSK(dim)


SOURCES = (Source(("zcablii/LSKNet:mmrotate/models/backbones/lsknet.py:LSKblock",), _lsk),)
