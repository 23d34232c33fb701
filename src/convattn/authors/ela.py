"""Efficient Local Attention as it circulates; no code of its authors was found."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.ela import ELA

__all__ = ["SOURCES"]


def _ela(channel: int, kernel_size: int, num_groups: int, is_groups: bool) -> ELA:
    scale = "small" if is_groups else "base"  # C // 8 convolution groups, or depthwise
    return ELA(channel, scale=scale, kernel_size=kernel_size, norm_groups=num_groups)


SOURCES = (
    Source(
        ("circulating:ela:EfficientLocalizationAttention",),
        _ela,
        keys=((r"convs\.0", "conv"), (r"norms\.0", "gn")),
    ),
)
