"""Maps of every size from a chain of blocks, and dilation in place of stride."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

__all__ = ["dilate", "each_size", "last_of_each_size"]


def dilate(
    strides: Sequence[int], output_stride: int, reached: int
) -> list[tuple[int, tuple[int, int]]]:
    """Stride of each stage, and the dilations of its first block and of the others.

    A stage that would shrink the map further than `output_stride` dilates instead; its first
    block still sees the map of the stage before and keeps that one's dilation.

    Args:
        strides: of the stages.
        output_stride: of the last map; larger than what the strides reach changes nothing.
        reached: stride of the map that enters the first stage.
    """
    stages, dilation = [], 1
    for stride in strides:
        before = dilation
        if stride == 2 and reached >= output_stride:
            stride, dilation = 1, 2 * dilation
        reached *= stride
        stages.append((stride, (before, dilation)))
    return stages


def last_of_each_size(depths: Iterable[int], strides: Iterable[int]) -> list[int]:
    """Numbers of the last block before each stage with a stride, and of the very last.

    Args:
        depths: blocks of each stage.
        strides: of the stages, before any became dilation.
    """
    taps: list[int] = []
    count = 0
    for depth, stride in zip(depths, strides, strict=True):
        if stride == 2 and count:
            taps.append(count - 1)
        count += depth
    return [*taps, count - 1]


def each_size(blocks: nn.Sequential, taps: list[int], x: Tensor) -> list[Tensor]:
    """Outputs of the blocks whose numbers are in `taps`."""
    maps = []
    for i, block in enumerate(blocks):
        x = block(x)
        if i in taps:
            maps.append(x)
    return maps
