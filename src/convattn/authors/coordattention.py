"""houqb/CoordAttention: Coordinate Attention and its MobileNetV2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from convattn.authors._mobilenet_v2 import after_depthwise, flat_keys
from convattn.authors._source import Source
from convattn.authors.cbam import SOURCES as CBAM
from convattn.authors.senet import SEM
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


def _mbv2_with(attention: str, **fixed: Any) -> Callable[..., nn.Module]:
    def build(num_classes: int = 1000, width_mult: float = 1.0, reduction: int = 24) -> nn.Module:
        return create_model(
            "mobilenet_v2",
            attention=attention,
            attention_args={"reduction": reduction, **fixed},
            num_classes=num_classes,
            width_mult=width_mult,
        )

    return build


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
    # The paper's other two networks have no published classification code: the names are those of
    # mbv2_ca.py, and of the SE in the authors' detector and of CBAM's own authors within it.
    Source(
        ("(paper arXiv 2103.02907):MobileNetV2 with SE:-",),
        _mbv2_with("se", act="relu6"),
        keys=flat_keys(attention=True),
        blocks=(after_depthwise(SEM),),
    ),
    Source(
        ("(paper arXiv 2103.02907):MobileNetV2 with CBAM:-",),
        _mbv2_with("cbam"),
        keys=flat_keys(attention=True),
        blocks=(after_depthwise(CBAM[0]),),
    ),
)
