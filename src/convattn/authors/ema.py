"""YOLOonMe/EMA-attention-module: Efficient Multi-scale Attention."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.ema import EMA

__all__ = ["SOURCES"]


def _ema(channels: int, c2: int | None = None, factor: int = 32) -> EMA:
    return EMA(channels, groups=factor)  # c2 is ignored by the authors too


SOURCES = (Source(("YOLOonMe/EMA-attention-module:EMA_attention_module:EMA",), _ema),)
