"""houqb/CoordAttention: Coordinate Attention and its MobileNetV2."""

from __future__ import annotations

import re

from torch import nn

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


def _mbv2_key(match: re.Match[str]) -> str:
    """blocks.k.<part>.<layer> -> features.(k + 1).conv.<index of the layer in their Sequential>."""
    k, part, layer = int(match[1]), match[2], match[3]
    layers = {"expand": 0, "depthwise": 3, "after_depthwise": 6, "project": 7}
    if k == 0:  # no expansion, no attention
        layers = {"depthwise": 0, "project": 3}
    index = layers[part] + (layer == "norm")
    inner = f".{_BRANCHES.get(layer, layer)}" if part == "after_depthwise" else ""
    return f"features.{k + 1}.conv.{index}{inner}"


_BRANCHES = {"conv_h": "conv2", "conv_w": "conv3"}

SOURCES = (
    Source(("houqb/CoordAttention:coordatt.py:CoordAtt",), _coordatt),
    Source(
        ("houqb/CoordAttention:mbv2_ca.py:CoordAtt",),
        _coordatt_mbv2,
        keys=((r"conv_h", "conv2"), (r"conv_w", "conv3")),
    ),
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
        keys=(
            (r"stem\.conv", "features.0.0"),
            (r"stem\.norm", "features.0.1"),
            (r"blocks\.(\d+)\.(\w+)\.(\w+)", _mbv2_key),
            (r"head\.conv", "conv.0"),
            (r"head\.norm", "conv.1"),
            (r"classifier", "classifier.1"),
        ),
    ),
)
