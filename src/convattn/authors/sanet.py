"""wofmanaf/SA-Net: Shuffle Attention."""

from __future__ import annotations

from torch import Tensor

from convattn.authors._source import Source
from convattn.blocks.sa import SA

__all__ = ["SOURCES"]


def _sa_layer(channel: int, groups: int = 64) -> SA:
    return SA(channel, groups=groups)


def _as_map(key: str, tensor: Tensor) -> Tensor:
    return tensor if key.startswith("gn") else tensor[None, :, None, None]


SOURCES = (
    Source(
        ("wofmanaf/SA-Net:models/sa_resnet.py:sa_layer",),
        _sa_layer,
        keys=((r"channel_", "c"), (r"position_", "s")),
        shape=_as_map,
    ),
)
