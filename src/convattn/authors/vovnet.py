"""youngwanLEE/vovnet-detectron2: effective squeeze and excitation."""

from __future__ import annotations

from convattn.authors._source import Source, conv_shape
from convattn.blocks.ese import ESE

__all__ = ["SOURCES"]


def _ese_module(channel: int, reduction: int = 4) -> ESE:
    return ESE(channel)  # `reduction` is ignored by the authors too


SOURCES = (
    Source(
        ("youngwanLEE/vovnet-detectron2:vovnet/vovnet.py:eSEModule",),
        _ese_module,
        shape=conv_shape,
    ),
)
