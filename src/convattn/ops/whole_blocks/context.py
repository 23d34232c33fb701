"""Blocks that add a context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.ops.whole_blocks._context_training import GC
from convattn.ops.whole_blocks._operator import define, kernel_of, runs_on, values_of
from convattn.ops.whole_blocks._training import train

__all__ = ["global_context"]

_gc = define(
    "global_context",
    "Tensor mask, Tensor w1, Tensor? b1, Tensor? gamma, Tensor? beta, float eps, Tensor w2,"
    " Tensor? b2",
)


def global_context(
    x: Tensor, mask: nn.Module, fc1: nn.Module, norm: nn.Module, fc2: nn.Module
) -> Tensor | None:
    """y = x + fc2 relu(LN(fc1 z)), z the mean of x weighted by softmax(mask x) over its positions.

    Args:
        x: feature map (N, C, H, W).
        mask: a 1x1 convolution from C to 1; its bias cancels.
        fc1: a linear layer from C to m.
        norm: LN, over m.
        fc2: a linear layer from m to C.

    Returns:
        The output, or None where the kernel does not take this.
    """
    gradients = torch.is_grad_enabled()
    if not runs_on(x, gradients):
        return None
    key, affine = kernel_of(mask, nn.Conv2d, biased=True), values_of(norm, nn.LayerNorm)
    first, second = values_of(fc1, nn.Linear), values_of(fc2, nn.Linear)
    if key is None or affine is None or first is None or second is None:
        return None
    if gradients:
        return train(GC, x, norm.eps, (*key, *first, *affine, *second))
    return _gc(x, key[0], *first, *affine, norm.eps, *second)
