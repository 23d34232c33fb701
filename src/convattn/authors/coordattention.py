"""houqb/CoordAttention: Coordinate Attention and its MobileNetV2."""

from __future__ import annotations

from torch import nn

from convattn.authors._mobilenet_v2 import after_depthwise, flat_keys
from convattn.authors._source import Source
from convattn.blocks.ca import CA
from convattn.core.errors import ArgumentError
from convattn.models import create_model

__all__ = ["SOURCES"]


def _coordatt(inp: int, oup: int, reduction: int = 32) -> CA:
    if inp != oup:  # accepted by the authors' constructor, but their forward cannot multiply then
        raise ArgumentError(f"CoordAtt needs oup == inp, got inp={inp}, oup={oup}")
    return CA(inp, reduction=reduction)


def _coordatt_mbv2(inp: int, oup: int, groups: int = 32) -> CA:
    return _coordatt(inp, oup, groups)  # `groups` is the reduction there


def _single_axis(axis: str, C: int, r: int) -> CA:
    axes = {"x": "h", "y": "w"}  # X attention averages along X and so has one gate per row
    if axis not in axes:
        raise ArgumentError(f"axis must be 'x' or 'y', got {axis!r}")
    return CA(C, reduction=r, axes=axes[axis])


def _mbv2_ca(num_classes: int = 1000, width_mult: float = 1.0, reduction: int = 32) -> nn.Module:
    return create_model(
        "mobilenet_v2",
        attention="ca",
        attention_args={"reduction": reduction},
        num_classes=num_classes,
        width_mult=width_mult,
    )


_MBV2_COORDATT = Source(
    ("houqb/CoordAttention:mbv2_ca.py:CoordAtt",),
    _coordatt_mbv2,
    keys=((r"conv_h", "conv2"), (r"conv_w", "conv3")),
)

SOURCES = (
    Source(("houqb/CoordAttention:coordatt.py:CoordAtt",), _coordatt),
    _MBV2_COORDATT,
    Source(
        ("houqb/CoordAttention:diagram.png, formulas:-",),
        _single_axis,
        keys=((r"conv_[hw]", "conv2"),),
    ),
    Source(
        (
            "houqb/CoordAttention:mbv2_ca.py:mbv2_ca",
            "houqb/CoordAttention:mbv2_ca.py:MBV2_CA",
        ),
        _mbv2_ca,
        keys=flat_keys(attention=True),
        blocks=(after_depthwise(_MBV2_COORDATT),),
    ),
)
