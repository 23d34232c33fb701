"""z-x-yang/GCT: the Gated Channel Transformation."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.gct import GCT

__all__ = ["SOURCES"]


def _gct(
    num_channels: int, epsilon: float = 1e-5, mode: str = "l2", after_relu: bool = False
) -> GCT:
    # behind a ReLU the authors leave out an absolute value that changes nothing there
    return GCT(num_channels, norm=mode, eps=epsilon)


SOURCES = (Source(("z-x-yang/GCT:PyTorch/GCT.py:GCT",), _gct),)
