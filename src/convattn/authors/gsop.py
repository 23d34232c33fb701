"""ZilinGao/Global-Second-order-Pooling-Convolutional-Networks: its two kinds of attention."""

from __future__ import annotations

from torch import Tensor

from convattn.authors._source import Source
from convattn.blocks.gsop import GSoP
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _channel(channels: int, att_dim: int = 128, attention: str = "1") -> GSoP:
    return _gsop("channel", "1", channels, att_dim, attention)


def _position(channels: int, att_dim: int = 128, attention: str = "2") -> GSoP:
    return _gsop("position", "2", channels, att_dim, attention)


def _gsop(mode: str, code: str, channels: int, att_dim: int, attention: str) -> GSoP:
    if attention != code:
        raise ArgumentError(f"attention of the {mode} gate is {code!r}, got {attention!r}")
    return GSoP(channels, mode=mode, dim=att_dim)


def _shape(key: str, tensor: Tensor) -> Tensor:
    return tensor[..., None, None] if key == "fc.weight" else tensor


_FILE = "ZilinGao/Global-Second-order-Pooling-Convolutional-Networks:torchvision/models/resnet.py"

SOURCES = (
    Source(
        (f"{_FILE}:Bottleneck.chan_att",),
        _channel,
        keys=(
            (r"reduce\.", "conv_for_DR."),
            (r"reduce_bn", "bn_for_DR"),
            (r"row_conv", "row_conv_group"),
            (r"fc", "fc_adapt_channels"),
        ),
        shape=_shape,
    ),
    Source(
        (f"{_FILE}:Bottleneck.pos_att",),
        _position,
        keys=(
            (r"reduce\.", "conv_for_DR_spatial."),
            (r"reduce_bn", "bn_for_DR_spatial"),
            (r"row_bn", "row_bn_for_spatial"),
            (r"row_conv", "row_conv_group_for_spatial"),
            (r"fc", "fc_adapt_channels_for_spatial"),
        ),
        shape=_shape,
    ),
)
