"""murufeng/EPSANet: Pyramid Squeeze Attention."""

from __future__ import annotations

from collections.abc import Sequence

from convattn.authors._source import Source, conv_shape
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


SOURCES = (
    Source(
        ("murufeng/EPSANet:models/epsanet.py:PSAModule",),
        _psa_module,
        keys=(
            (r"convs\.(\d)", lambda match: f"conv_{int(match[1]) + 1}"),
            (r"(fc\d)", r"se.\1"),
        ),
        shape=conv_shape,
    ),
)
