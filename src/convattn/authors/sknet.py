"""implus/SKNet: the Selective Kernel convolution (Caffe; the key names are ours)."""

from __future__ import annotations

from convattn.authors._source import Source, conv_shape
from convattn.blocks.sk import SK

__all__ = ["SOURCES"]


def _sk(C: int, G: int = 32, r: int = 16, L: int = 32, stride: int = 1) -> SK:
    return SK(C, stride=stride, groups=G, reduction=r, min_hidden=L)


SOURCES = (
    Source(
        ("implus/SKNet:models/sknet50.prototxt:-",),
        _sk,
        keys=(
            (r"branches\.(\d+)\.0", r"conv\1"),
            (r"branches\.(\d+)\.1", r"bn\1"),
            (r"bn\.", "fc1_bn."),
        ),
        shape=conv_shape,
    ),
)
