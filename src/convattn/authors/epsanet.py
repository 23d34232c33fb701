"""murufeng/EPSANet: Pyramid Squeeze Attention and its networks."""

from __future__ import annotations

from collections.abc import Sequence

from convattn.authors._resnet import resnet_builder
from convattn.authors._source import Inside, Source, conv_shape
from convattn.blocks.psa import PSA

__all__ = ["SOURCES"]


def _psa_module(
    inplans: int,
    planes: int,
    conv_kernels: Sequence[int] = (3, 5, 7, 9),
    stride: int = 1,
    conv_groups: Sequence[int] = (1, 4, 8, 16),
) -> PSA:
    return PSA(inplans, planes, stride, kernel_sizes=tuple(conv_kernels), groups=tuple(conv_groups))


_MODULE = Source(
    ("murufeng/EPSANet:models/epsanet.py:PSAModule",),
    _psa_module,
    keys=(
        (r"convs\.(\d)", lambda match: f"conv_{int(match[1]) + 1}"),
        (r"(fc\d)", r"se.\1"),
    ),
    shape=conv_shape,
)

SOURCES = (
    _MODULE,
    *(
        Source(
            (f"murufeng/EPSANet:models/epsanet.py:epsanet{depth}",),
            resnet_builder(depth, "psa", at="conv3x3"),
            blocks=(Inside(r"(layer\d\.\d+\.conv2)", r"\1", _MODULE),),
        )
        for depth in (50, 101)
    ),
)
