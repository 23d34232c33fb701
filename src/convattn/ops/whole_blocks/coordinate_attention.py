"""Coordinate attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convattn.ops.whole_blocks._coordinate_training import CA
from convattn.ops.whole_blocks._operator import (
    Layer,
    define,
    kernel_of,
    norm_of,
    runs_on,
    statistics_of,
    values_of,
)
from convattn.ops.whole_blocks._training import train

__all__ = ["coordinate_attention"]

_ca = define(
    "coordinate_attention",
    "Tensor w1, Tensor? b1, Tensor? mean, Tensor? variance, Tensor? gamma, Tensor? beta, float eps,"
    " Tensor wh, Tensor? bh, Tensor ww, Tensor? bw, bool relu, float scale",
)


def coordinate_attention(
    x: Tensor,
    conv1: nn.Module,
    norm: nn.Module | None,
    conv_h: nn.Module,
    conv_w: nn.Module,
    *,
    relu: bool,
    scale: float,
) -> Tensor | None:
    """y = x * scale sigmoid(F_w f_w) * scale sigmoid(F_h f_h), f = act(BN(F1 [z_h, z_w])).

    Args:
        x: feature map (N, C, H, W).
        conv1: F1, a 1x1 convolution from C to m.
        norm: BN, over m, or None.
        conv_h: F_h, a 1x1 convolution from m to C, for the gates (N, C, H, 1).
        conv_w: F_w, for the gates (N, C, 1, W).
        relu: the activation is ReLU; otherwise h-swish.
        scale: of both gates.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    first, rows, columns = (
        kernel_of(conv, nn.Conv2d, biased=True) for conv in (conv1, conv_h, conv_w)
    )
    if first is None or rows is None or columns is None:
        return None
    if gradients:
        return _with_gradients(x, first, norm, rows, columns, relu, scale)
    values = norm_of(norm, nn.BatchNorm2d)
    if values is None:
        return None
    *statistics, eps = values
    return _ca(x, *first, *statistics, eps, *rows, *columns, relu, scale)


def _with_gradients(
    x: Tensor, first: Layer, norm: Any, rows: Layer, columns: Layer, relu: bool,
    scale: float,
) -> Tensor | None:  # fmt: skip
    affine = (None, None) if norm is None else values_of(norm, nn.BatchNorm2d)
    statistics = None if affine is None else statistics_of(norm)
    if affine is None or statistics is None:
        return None
    return train(CA, x, (statistics, relu, scale), (*first, *affine, *rows, *columns))
