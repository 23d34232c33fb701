"""Pooling to a grid, spreading it again, and batch norm on what was pooled."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks._base import batch_norm_nd, conv_nd
from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError, InputError
from convattn.ops import mix_channels

__all__ = [
    "adaptive_weights",
    "check_pooled_norm",
    "check_size",
    "convolve_strip",
    "linear_weights",
    "nearest_weights",
    "resample",
    "strip_layer",
    "window_weights",
]


def check_pooled_norm(block: nn.Module, values: int, pooled: str, fix: str = "batch") -> None:
    """Raise `InputError` when batch norm would train on one pooled value per channel.

    Args:
        block: named in the error.
        values: per channel.
        pooled: what the norm sees, for the error.
        fix: what a larger one helps.
    """
    if block.training and values == 1:
        raise InputError(
            f"{type(block).__name__}'s batch norm on {pooled} needs more than one value per "
            "channel in training, got batch 1 and one pooled position. "
            f"Use a larger {fix}, or call .eval() on the block."
        )


def check_size(owner: str, name: str, size: object, axes: int) -> tuple[int, ...]:
    """Raise `ArgumentError` unless `size` is that many positive integers."""
    if not isinstance(size, (tuple, list)) or len(size) != axes:
        raise ArgumentError(f"{owner}: {name} must be {axes} integers, got {size!r}")
    for length in size:
        check_positive(owner, f"each of {name}", length)
    return tuple(size)


def resample(x: Tensor, *weights: Tensor) -> Tensor:
    """Pool or interpolate a map (..., *axes) by a matrix (out, size) for each axis.

    As matrix products these have deterministic gradients on every device.
    """
    for axis, weight in enumerate(weights, -len(weights)):
        x = (x.transpose(axis, -1) @ weight.to(x.dtype).mT).transpose(axis, -1)
    return x


def strip_layer(channels: int, place: int, ndim: int) -> tuple[nn.Module, nn.Module]:
    """A convolution of kernel 3 along one axis of a map and its norm, for `convolve_strip`."""
    kernel: Any = tuple(3 if axis == place else 1 for axis in range(ndim))
    padding: Any = tuple(k // 2 for k in kernel)
    conv = conv_nd(ndim)(channels, channels, kernel, padding=padding, bias=False)
    return conv, batch_norm_nd(ndim)(channels)


def convolve_strip(strip: Tensor, weight: Tensor) -> Tensor:
    """A convolution along a strip, zero padded, as one matrix product: compiled once for all sizes.

    Args:
        strip: (N, C, L).
        weight: (M, C, k, 1), (M, C, 1, k) or the like, k odd.

    Returns:
        (N, M, L).
    """
    k = prod(weight.shape[2:])
    windows = F.pad(strip, (k // 2, k // 2)).unfold(2, k, 1)  # (N, C, L, k)
    return mix_channels(windows.transpose(2, 3).flatten(1, 2), weight)


def adaptive_weights(out: int, size: int, like: Tensor) -> Tensor:
    """Adaptive average pooling along one axis, a matrix (out, size).

    Row i averages positions floor(i * size / out) to ceil((i + 1) * size / out) - 1.
    """
    i = torch.arange(out, device=like.device)[:, None]
    j = torch.arange(size, device=like.device)
    window = (j >= i * size // out) & (j < ((i + 1) * size + out - 1) // out)
    weights = window.to(_precise(like))
    return weights / weights.sum(1, keepdim=True)


def window_weights(extent: int, size: int, like: Tensor) -> Tensor:
    """Averages over windows of 2 extent - 1 at every extent-th position, a matrix (out, size).

    Positions outside do not count; out is size / extent, rounded up.
    """
    i = torch.arange((size + extent - 1) // extent, device=like.device)[:, None]
    j = torch.arange(size, device=like.device)
    weights = ((j - i * extent).abs() < extent).to(_precise(like))
    return weights / weights.sum(1, keepdim=True)


def linear_weights(out: int, size: int, like: Tensor) -> Tensor:
    """Linear interpolation along one axis with the corners aligned, a matrix (out, size)."""
    i = torch.arange(out, device=like.device, dtype=_precise(like))[:, None]
    j = torch.arange(size, device=like.device)
    source = i * (size - 1) / i[-1:].clamp(min=1)
    return (1 - (source - j).abs()).clamp(min=0)


def nearest_weights(out: int, size: int, like: Tensor) -> Tensor:
    """Nearest interpolation along one axis, a matrix (out, size): i takes floor(i * size / out)."""
    i = torch.arange(out, device=like.device)[:, None]
    j = torch.arange(size, device=like.device)
    return (j == i * size // out).to(_precise(like))


def _precise(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)
