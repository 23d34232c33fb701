"""Blocks with one gate for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.ops.whole_blocks._channel_training import ECA, SE
from convattn.ops.whole_blocks._operator import (
    define,
    kernel_of,
    norm_of,
    readable,
    runs_on,
    statistics_of,
    values_of,
)
from convattn.ops.whole_blocks._style_training import SRM
from convattn.ops.whole_blocks._training import train

__all__ = ["efficient_channel_attention", "squeeze_excitation", "style_recalibration"]

_se = define(
    "squeeze_excitation",
    "Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, bool relu6, float scale",
)
_eca = define("efficient_channel_attention", "Tensor weight, bool circular, float scale")
_srm = define(
    "style_recalibration",
    "Tensor weights, Tensor mean, Tensor variance, Tensor? gamma, Tensor? beta, float eps,"
    " bool unbiased, float scale",
)


def squeeze_excitation(
    x: Tensor, fc1: nn.Module, fc2: nn.Module, *, relu6: bool, scale: float
) -> Tensor | None:
    """y = x * scale sigmoid(fc2 act(fc1 z)), z the means of the channels.

    Args:
        x: feature map (N, C, H, W).
        fc1: a linear layer from C to m.
        fc2: a linear layer from m to C.
        relu6: act is ReLU6 instead of ReLU.
        scale: of the gate.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    first, second = values_of(fc1, nn.Linear), values_of(fc2, nn.Linear)
    if first is None or second is None:
        return None
    if gradients:
        return train(SE, x, (relu6, scale), (*first, *second))
    return _se(x, *first, *second, relu6, scale)


def efficient_channel_attention(
    x: Tensor, conv: nn.Module, *, circular: bool, scale: float
) -> Tensor | None:
    """y = x * scale sigmoid(a convolution across the channels' means).

    Args:
        x: feature map (N, C, H, W).
        conv: a convolution with one kernel and without bias.
        circular: the first and the last channel are neighbours.
        scale: of the gate.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    values = kernel_of(conv, nn.Conv1d)
    if values is None:
        return None
    if gradients:
        return train(ECA, x, (circular, scale), values[:1])
    return _eca(x, values[0], circular, scale)


def style_recalibration(
    x: Tensor, weights: Tensor, norm: nn.Module, *, unbiased: bool, scale: float
) -> Tensor | None:
    """y = x * scale sigmoid(BN(w_1 mean + w_2 sqrt(variance + 1e-5))), for each channel.

    Args:
        x: feature map (N, C, H, W).
        weights: w, (C, 2).
        norm: BN, over C.
        unbiased: the variance divides by HW - 1.
        scale: of the gate.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients) or not readable(weights):
        return None
    if gradients:
        affine = values_of(norm, nn.BatchNorm1d)
        statistics = None if affine is None else statistics_of(norm)
        if affine is None or statistics is None or (statistics.batch and x.shape[0] == 1):
            return None  # PyTorch says why one value has no statistics
        return train(SRM, x, (statistics, unbiased, scale), (weights, *affine))
    values = norm_of(norm, nn.BatchNorm1d)
    return None if values is None else _srm(x, weights, *values, unbiased, scale)
