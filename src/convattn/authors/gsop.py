"""ZilinGao/Global-Second-order-Pooling-Convolutional-Networks: its two gates and GSoP-Net1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from convattn.authors._source import Inside, Source
from convattn.blocks.gsop import GSoP
from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError
from convattn.models import create_model

__all__ = ["SOURCES"]


def _channel(channels: int, att_dim: int = 128, attention: str = "1") -> GSoP:
    return _gsop("channel", "1", channels, att_dim, attention)


def _position(channels: int, att_dim: int = 128, attention: str = "2") -> GSoP:
    return _gsop("position", "2", channels, att_dim, attention)


def _gsop(mode: str, code: str, channels: int, att_dim: int, attention: str) -> GSoP:
    if attention != code:
        raise ArgumentError(f"attention of the {mode} gate is {code!r}, got {attention!r}")
    return GSoP(channels, mode=mode, dim=att_dim)


LAST = "channel block at the last bottleneck of each stage"


def _network(depth: int) -> Callable[..., nn.Module]:
    def build(
        att_position: str | Sequence[Sequence[str]],
        att_dim: int = 128,
        GSoP_mode: int = 1,
        num_classes: int = 1000,
    ) -> nn.Module:
        """GSoP-Net1; `att_position` is "1" for each bottleneck with a channel block, else "0"."""
        check_choice(f"resnet{depth}", "GSoP_mode", GSoP_mode, (1,))
        if att_position != LAST and not _at_last(att_position):
            raise ArgumentError(
                f"att_position must have a '1' for the last bottleneck of each of the four stages "
                f"and '0' elsewhere, or be {LAST!r}; got {att_position!r}"
            )
        return create_model(
            f"resnet{depth}",
            attention="gsop",
            attention_args={"dim": att_dim},
            num_classes=num_classes,
            strides=(1, 2, 2, 1),  # the last stage works on 14x14
        )

    return build


def _at_last(positions: str | Sequence[Sequence[str]]) -> bool:
    return len(positions) == 4 and all(
        stage and stage[-1] == "1" and set(stage[:-1]) <= {"0"} for stage in positions
    )


def _shape(key: str, tensor: Tensor) -> Tensor:
    return tensor[..., None, None] if key == "fc.weight" else tensor


_FILE = "ZilinGao/Global-Second-order-Pooling-Convolutional-Networks:torchvision/models/resnet.py"

_CHANNEL = Source(
    (f"{_FILE}:Bottleneck.chan_att",),
    _channel,
    keys=(
        (r"reduce\.", "conv_for_DR."),
        (r"reduce_bn", "bn_for_DR"),
        (r"row_conv", "row_conv_group"),
        (r"fc", "fc_adapt_channels"),
    ),
    shape=_shape,
)

_IN_BLOCKS = Inside(r"(layer\d\.\d+)\.before_add", r"\1", _CHANNEL)  # no name of its own

SOURCES = (
    _CHANNEL,
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
    *(
        Source((f"{_FILE}:resnet{depth}",), _network(depth), blocks=(_IN_BLOCKS,))
        for depth in (50, 101)
    ),
)
