"""Blocks with a gate for each position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convattn.ops.whole_blocks._cbam_training import CBAM
from convattn.ops.whole_blocks._operator import (
    define,
    kernel_of,
    norm_of,
    runs_on,
    statistics_of,
    values_of,
)
from convattn.ops.whole_blocks._training import Parameters, train
from convattn.ops.whole_blocks._triplet_training import TRIPLET

__all__ = ["cbam", "triplet"]

_NORM = "Tensor? mean{0}, Tensor? variance{0}, Tensor? gamma{0}, Tensor? beta{0}, float eps{0}"
_cbam = define(
    "cbam",
    "Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, Tensor conv, "
    f"{_NORM.format('')}, bool maximum_first, float scale",
)
_triplet = define(
    "triplet",
    "".join(f"Tensor conv{axes}, {_NORM.format(axes)}, " for axes in ("_cw", "_hc", "_hw"))
    + "float scale",
)


def cbam(
    x: Tensor,
    fc1: nn.Module,
    fc2: nn.Module,
    conv: nn.Module,
    norm: nn.Module | None,
    *,
    maximum_first: bool,
    scale: float,
) -> Tensor | None:
    """x' = x * scale sigmoid(MLP(mean) + MLP(max)), y = x' * scale sigmoid(BN(conv [max, mean])).

    Args:
        x: feature map (N, C, H, W).
        fc1: the MLP's linear layer from C to m.
        fc2: the MLP's linear layer from m to C.
        conv: a square convolution of the maxima and means of x' over its channels, without bias.
        norm: BN, or None.
        maximum_first: the order of the convolution's inputs.
        scale: of both gates.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    first, second = values_of(fc1, nn.Linear), values_of(fc2, nn.Linear)
    kernel = kernel_of(conv, nn.Conv2d)
    if first is None or second is None or kernel is None:
        return None
    if gradients:
        return _trained_cbam(x, (*first, *second, kernel[0]), norm, maximum_first, scale)
    values = norm_of(norm, nn.BatchNorm2d)
    if values is None:
        return None
    return _cbam(x, *first, *second, kernel[0], *values, maximum_first, scale)


def triplet(
    x: Tensor, branches: Sequence[tuple[nn.Module, nn.Module]], *, scale: float
) -> Tensor | None:
    """y = x * scale (g_cw + g_hc + g_hw) / 3, each gate sigmoid(BN(conv [max, mean])).

    Args:
        x: feature map (N, C, H, W).
        branches: convolution and norm of the gates (C, W), (H, C) and (H, W).
        scale: of the gates.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    if gradients:
        return _trained_triplet(x, branches, scale)
    values: list[Tensor | float | None] = []
    for conv, norm in branches:
        kernel, own = kernel_of(conv, nn.Conv2d), norm_of(norm, nn.BatchNorm2d)
        if kernel is None or own is None:
            return None
        values += (kernel[0], *own)
    return _triplet(x, *values, scale)


def _trained_cbam(
    x: Tensor, layers: Parameters, norm: nn.Module | None, maximum_first: bool, scale: float
) -> Tensor | None:
    affine = (None, None) if norm is None else values_of(norm, nn.BatchNorm2d)
    statistics = None if affine is None else statistics_of(norm)
    if affine is None or statistics is None or (statistics.batch and x.numel() == x.shape[1]):
        return None  # of one value PyTorch says why it has no statistics
    return train(CBAM, x, (statistics, maximum_first, scale), (*layers, *affine))


def _trained_triplet(
    x: Tensor, branches: Sequence[tuple[nn.Module, nn.Module]], scale: float
) -> Tensor | None:
    n, c, h, w = x.shape
    parameters: list[Tensor | None] = []
    norms = []
    for (conv, norm), places in zip(branches, (c * w, h * c, h * w), strict=True):
        kernel, affine = kernel_of(conv, nn.Conv2d), values_of(norm, nn.BatchNorm2d)
        statistics = None if affine is None else statistics_of(norm)
        if kernel is None or affine is None or statistics is None:
            return None
        if statistics.batch and n * places == 1:
            return None  # likewise
        parameters += kernel[0], *affine
        norms.append(statistics)
    return train(TRIPLET, x, (tuple(norms), scale), tuple(parameters))
