"""Squeeze-and-Excitation as PyTorch authors wrote it; the original is a Caffe definition."""

from __future__ import annotations

from convattn.authors._resnet import DEPTHS, in_blocks, resnet_builder
from convattn.authors._source import Source, conv_shape
from convattn.blocks.se import SE
from convattn.core.errors import ArgumentError

__all__ = ["SEM", "SOURCES"]


def _moskomule(channel: int, reduction: int = 16) -> SE:
    return SE(channel, reduction=reduction, bias=False)


def _srm_port(channel: int, reduction: int = 16) -> SE:
    return SE(channel, reduction=reduction)


def _sem(inp: int, oup: int) -> SE:
    if inp != oup:
        raise ArgumentError(f"SEM needs oup == inp, got inp={inp}, oup={oup}")
    return SE(inp, reduction=24, act="relu6")


_FC = ((r"fc1", "fc.0"), (r"fc2", "fc.2"))
_SRM = "hyunjaelee410/style-based-recalibration-module:models/recalibration_modules.py"

_MOSKOMULE = Source(("moskomule/senet.pytorch:senet/se_module.py:SELayer",), _moskomule, keys=_FC)

SEM = Source(
    ("houqb/ssdlite-pytorch-mobilenext:ssd/modeling/backbone/se_mbv2.py:SEM",),
    _sem,
    keys=((r"fc1", "conv.0"), (r"fc2", "conv.2")),
    shape=conv_shape,
)

SOURCES = (
    _MOSKOMULE,
    *(
        Source(
            (f"moskomule/senet.pytorch:senet/se_resnet.py:se_resnet{depth}",),
            resnet_builder(depth, "se", attention_args={"bias": False}),
            blocks=in_blocks("se", _MOSKOMULE),
        )
        for depth in DEPTHS
    ),
    Source((f"{_SRM}:SELayer",), _srm_port, keys=_FC),
    SEM,
)
