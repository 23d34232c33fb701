"""houqb/SPNet: Strip Pooling and Mixed Pooling."""

from __future__ import annotations

import re
from collections.abc import Sequence

from convattn.authors._source import Source
from convattn.blocks.mpm import MPM
from convattn.blocks.spm import SPM
from convattn.core.errors import ArgumentError

__all__ = ["SOURCES"]


def _spblock(inplanes: int, outplanes: int) -> SPM:
    if inplanes != outplanes:  # the gate could not be multiplied with the map then
        raise ArgumentError(
            f"SPBlock needs outplanes == inplanes, got inplanes={inplanes}, outplanes={outplanes}"
        )
    return SPM(inplanes)


def _strip_pooling(in_channels: int, pool_size: Sequence[int]) -> MPM:
    first, second = pool_size
    return MPM(in_channels, pools=(first, second))


_MPM_LAYERS = {
    "reduce_a": "conv1_1",
    "reduce_b": "conv1_2",
    "full": "conv2_0",
    "pooled.0": "conv2_1",
    "pooled.1": "conv2_2",
    "conv_w": "conv2_3.0",
    "bn_w": "conv2_3.1",
    "conv_h": "conv2_4.0",
    "bn_h": "conv2_4.1",
    "short": "conv2_5",
    "long": "conv2_6",
    "expand": "conv3",
}


def _mpm_key(match: re.Match[str]) -> str:
    return f"{_MPM_LAYERS[match[1]]}."


SOURCES = (
    Source(
        ("houqb/SPNet:models/resnet.py:SPBlock",),
        _spblock,
        keys=(
            (r"(conv|bn)_h", r"\g<1>1"),
            (r"(conv|bn)_w", r"\g<1>2"),
            (r"conv\.", "conv3."),
        ),
    ),
    Source(
        ("houqb/SPNet:models/customize.py:StripPooling",),
        _strip_pooling,
        keys=((r"(pooled\.\d|\w+)\.", _mpm_key),),
    ),
)
