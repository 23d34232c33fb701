"""wofmanaf/SA-Net: Shuffle Attention and its networks."""

from __future__ import annotations

from torch import Tensor

from convattn.authors._resnet import in_blocks, resnet_builder
from convattn.authors._source import Source
from convattn.blocks.sa import SA

__all__ = ["SOURCES"]


def _sa_layer(channel: int, groups: int = 64) -> SA:
    return SA(channel, groups=groups)


def _as_map(key: str, tensor: Tensor) -> Tensor:
    return tensor if key.startswith("gn") else tensor[None, :, None, None]


_LAYER = Source(
    ("wofmanaf/SA-Net:models/sa_resnet.py:sa_layer",),
    _sa_layer,
    keys=((r"channel_", "c"), (r"position_", "s")),
    shape=_as_map,
)

SOURCES = (
    _LAYER,
    *(
        Source(
            (f"wofmanaf/SA-Net:models/sa_resnet.py:sa_resnet{depth}",),
            resnet_builder(depth, "sa"),
            blocks=in_blocks("sa", _LAYER),
        )
        for depth in (50, 101, 152)
    ),
)
