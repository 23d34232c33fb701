"""The operator `convattn::coordinate_attention`: a whole block, without gradients.

The map is read twice and written once, the second time from the cache where one image's map fits
into it; nothing else leaves it. The block itself is the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convattn.ops._library import CPU, OPERATORS, takes

__all__ = ["coordinate_attention"]

OPERATORS.define(
    "coordinate_attention(Tensor x, Tensor w1, Tensor? b1, Tensor? mean, Tensor? variance,"
    " Tensor? gamma, Tensor? beta, float eps, Tensor wh, Tensor? bh, Tensor ww, Tensor? bw,"
    " bool relu, float scale) -> Tensor"
)
_forward = torch.ops.convattn.coordinate_attention.default


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
        norm: BN in evaluation, over m, or None.
        conv_h: F_h, a 1x1 convolution from m to C, for the gates (N, C, H, 1).
        conv_w: F_w, for the gates (N, C, 1, W).
        relu: the activation is ReLU; otherwise h-swish.
        scale: of both gates.

    Returns:
        The output, or None where the kernel does not take this: gradients may be wanted, the norm
        is another one or in training, or something is not float32.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not x.is_cpu or not takes(x):
        return None
    statistics: tuple[Tensor | None, ...] = (None, None)
    affine, eps = statistics, 0.0
    if norm is not None:
        if type(norm) is not nn.BatchNorm2d or norm.training or norm.running_mean is None:
            return None
        if norm._forward_hooks or norm._forward_pre_hooks:
            return None
        statistics, eps = (norm._buffers["running_mean"], norm._buffers["running_var"]), norm.eps
        affine = _weight_and_bias(norm)
    if not (type(conv1) is type(conv_h) is type(conv_w) is nn.Conv2d):  # not parametrised, say
        return None
    first = (*_weight_and_bias(conv1), *statistics, *affine)
    last = (*_weight_and_bias(conv_h), *_weight_and_bias(conv_w))
    if x.dtype is not torch.float32:
        return None
    for t in (*first, *last):
        if t is not None and not (t.dtype is torch.float32 and t.is_cpu and t.is_contiguous()):
            return None
    if torch.compiler.is_compiling():
        return _forward(x, *first, eps, *last, relu, scale)
    return _forward.redispatch(CPU, x, *first, eps, *last, relu, scale)


def _weight_and_bias(layer: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return layer._parameters["weight"], layer._parameters["bias"]  # faster than the attributes


@torch.library.register_fake("convattn::coordinate_attention", lib=OPERATORS)
def _fake(x: Tensor, *parameters: object) -> Tensor:
    return torch.empty_like(x)
