"""BangguWu/ECANet: Efficient Channel Attention and its networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from convattn.authors._mobilenet_v2 import before_add, nested_keys
from convattn.authors._resnet import DEPTHS, in_blocks
from convattn.authors._source import Source
from convattn.blocks.eca import ECA
from convattn.models import create_model
from convattn.models.mobilenet_v2 import STAGES

__all__ = ["SOURCES"]


def _eca_layer(channel: int, k_size: int = 3) -> ECA:
    return ECA(channel, kernel_size=k_size)


def _eca_resnet(depth: int) -> Callable[..., nn.Module]:
    def build(k_size: Sequence[int] = (3, 3, 3, 3), num_classes: int = 1000) -> nn.Module:
        return create_model(
            f"resnet{depth}",
            attention="eca",
            attention_per_stage={"kernel_size": [int(k) for k in k_size]},
            num_classes=num_classes,
        )

    return build


def _eca_mobilenet_v2(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    kernels = [1 if channels < 96 else 3 for _, channels, _ in STAGES]
    return create_model(
        "mobilenet_v2",
        attention="eca",
        at="before_add",
        attention_per_stage={"kernel_size": kernels},
        num_classes=num_classes,
        width_mult=width_mult,
        round_widths=False,
        dropout=0.25,
    )


_LAYER = Source(("BangguWu/ECANet:models/eca_module.py:eca_layer",), _eca_layer)

SOURCES = (
    _LAYER,
    *(
        Source(
            (f"BangguWu/ECANet:models/eca_resnet.py:eca_resnet{depth}",),
            _eca_resnet(depth),
            blocks=in_blocks("eca", _LAYER),
        )
        for depth in DEPTHS
    ),
    Source(
        ("BangguWu/ECANet:models/eca_mobilenetv2.py:eca_mobilenet_v2",),
        _eca_mobilenet_v2,
        keys=nested_keys(),
        blocks=(before_add(_LAYER),),
    ),
)
