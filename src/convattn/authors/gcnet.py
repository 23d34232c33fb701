"""xvjiarui/GCNet: the Global Context block and the backbone that holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from convattn.authors._resnet import attention_last, in_blocks
from convattn.authors._source import Source
from convattn.blocks.gc import GC
from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError
from convattn.models import create_model
from convattn.models.resnet import PLANES

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


def _backbone(
    depth: int,
    gcb: Mapping[str, Any] | None = None,
    stage_with_gcb: Sequence[bool] = (False, False, False, False),
) -> nn.Module:
    """The maps of the four stages."""
    stages = [s for s, has in enumerate(stage_with_gcb, 1) if has]
    if gcb is None or not stages:
        return create_model(f"resnet{depth}", features_only=True)
    unknown = set(gcb) - {"ratio"}
    if unknown:
        raise ArgumentError(f"gcb may have 'ratio' alone here, got {sorted(unknown)}")
    check_choice("ResNet", "depth with gcb", depth, (50, 101, 152))  # bottlenecks alone, as theirs
    ratio = float(Fraction(gcb["ratio"]))
    return create_model(
        f"resnet{depth}",
        attention="gc",
        at="before_add",
        attention_stages=stages,
        attention_per_stage={"hidden": [int(4 * planes * ratio) for planes in PLANES]},
        features_only=True,
    )


_BLOCK = Source(
    ("xvjiarui/GCNet:mmdet/ops/gcb/context_block.py:ContextBlock",),
    _context_block,
    keys=((r"mask", "conv_mask"), (r"(add|mul)\.", r"channel_\1_conv.")),
    shape=_shape,
)

SOURCES = (
    _BLOCK,
    Source(
        ("xvjiarui/GCNet:mmdet/models/backbones/resnet.py:ResNet",),
        _backbone,
        blocks=in_blocks("context_block", _BLOCK),
        order=attention_last,
    ),
)
