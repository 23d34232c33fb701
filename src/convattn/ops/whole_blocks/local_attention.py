"""Gates for rows and columns from convolved strips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convattn.ops.whole_blocks._local_training import ELA
from convattn.ops.whole_blocks._operator import define, kernel_of, runs_on, values_of
from convattn.ops.whole_blocks._training import train

__all__ = ["local_attention"]

_ela = define(
    "local_attention",
    "Tensor conv_h, Tensor? gamma_h, Tensor? beta_h, Tensor conv_w, Tensor? gamma_w,"
    " Tensor? beta_w, int groups, float eps, bool silu, float scale",
)


def local_attention(
    x: Tensor, axes: Sequence[tuple[nn.Module, nn.Module]], *, silu: bool, scale: float
) -> Tensor | None:
    """y = x * g_h * g_w, each gate scale sigmoid(act(GN(conv z))), z the means along an axis.

    Args:
        x: feature map (N, C, H, W).
        axes: convolution and group norm of the rows, and of the columns.
        silu: act is SiLU instead of nothing.
        scale: of both gates.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    values: list[Tensor | None] = []
    for conv, norm in axes:
        kernel = kernel_of(conv, nn.Conv1d, groups=getattr(conv, "groups", 1))
        affine = values_of(norm, nn.GroupNorm)
        if kernel is None or affine is None:
            return None
        values += (kernel[0], *affine)
    first, second = ((norm.num_groups, norm.eps) for _, norm in axes)
    if first != second:
        return None
    settings = *first, silu, scale
    if not gradients:
        return _ela(x, *values, *settings)
    return train(ELA, x, settings, tuple(values))
