"""xvjiarui/GCNet: the Global Context block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from convattn.authors._source import Source
from convattn.blocks.gc import GC
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _context_block(
    inplanes: int,
    ratio: float,
    pooling_type: str = "att",
    fusion_types: Sequence[str] = ("channel_add",),
) -> GC:
    wanted = set(fusion_types)
    if not wanted or wanted - {"channel_add", "channel_mul"}:
        raise ArgumentError(
            f"fusion_types must be of 'channel_add' and 'channel_mul', got {fusion_types!r}"
        )
    fusion = "_".join(kind for kind in ("mul", "add") if f"channel_{kind}" in wanted)
    return GC(inplanes, hidden=int(inplanes * ratio), pooling=pooling_type, fusion=fusion)


def _shape(key: str, tensor: Tensor) -> Tensor:
    """Linear layers as 1x1 convolutions; the layer norm's (m,) as (m, 1, 1)."""
    if ".1." in key or (key.endswith("weight") and tensor.dim() == 2):
        return tensor[..., None, None]
    return tensor


SOURCES = (
    Source(
        ("xvjiarui/GCNet:mmdet/ops/gcb/context_block.py:ContextBlock",),
        _context_block,
        keys=((r"mask", "conv_mask"), (r"(add|mul)\.", r"channel_\1_conv.")),
        shape=_shape,
    ),
)
