"""What the operators of whole blocks share: when they run, and what they read from layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.ops._library import CPU, OPERATORS, takes
from convattn.ops.whole_blocks._training import full

__all__ = [
    "Layer",
    "Norm",
    "Statistics",
    "define",
    "kernel_of",
    "norm_of",
    "readable",
    "runs_on",
    "statistics_of",
    "values_of",
]

Layer = tuple[Tensor | None, Tensor | None]  # weight and bias
Norm = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, float]
_DTYPES = (torch.float32, torch.bfloat16)
_NO_NORM: Norm = (None, None, None, None, 0.0)


class Statistics(NamedTuple):
    """Of a batch norm in a training step: its running mean and variance, and its eps.

    Attributes:
        batch: the norm is by the batch's own mean and variance.
        counter: of the batches; with it the running mean and variance move.
        momentum: by which they do; negative for averages of all batches.
    """

    mean: Tensor | None
    variance: Tensor | None
    eps: float
    batch: bool
    counter: Tensor | None
    momentum: float

    def normed(self, x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        """x behind the norm, the running statistics not moved; for `Training.steps`."""
        if not self.batch and self.mean is None:
            return x
        own = (None, None) if self.batch else (self.mean, self.variance)
        return F.batch_norm(x, *own, gamma, beta, self.batch, 0.0, self.eps)


def define(name: str, arguments: str) -> Callable[..., Tensor]:
    """Register `convattn::name(Tensor x, arguments) -> Tensor`, of x's shape; returns its call."""
    OPERATORS.define(f"{name}(Tensor x, {arguments}) -> Tensor")
    torch.library.register_fake(
        f"convattn::{name}", lambda x, *rest: torch.empty_like(x), lib=OPERATORS
    )
    operator = getattr(torch.ops.convattn, name).default

    def call(x: Tensor, *rest: Any) -> Tensor:
        result: Tensor
        if torch.compiler.is_compiling():
            result = operator(x, *rest)
        else:
            result = operator.redispatch(CPU, x, *rest)
        return result

    return call


def runs_on(x: Tensor, gradients: bool) -> bool:
    """Whether the operators may run on x: the CPU's kernels take it, gradients are on or off."""
    return (
        x.is_cpu
        and torch.is_grad_enabled() is gradients
        and not torch.is_autocast_enabled("cpu")
        and takes(x)
    )


def values_of(layer: nn.Module, kind: type[nn.Module]) -> Layer | None:
    """Weight and bias of a layer; None if it is not a plain one of that kind.

    A layer that is parametrised, quantised, watched by hooks or has a `forward` of its own has to
    be called itself.
    """
    if (
        type(layer) is not kind
        or "forward" in layer.__dict__
        or layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    ):
        return None
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    return (weight, bias) if readable(weight, bias) else None


def kernel_of(
    layer: nn.Module, kind: type[nn.Module], *, groups: int = 1, biased: bool = False
) -> Layer | None:
    """`values_of` a convolution that keeps the map's size; None if it is another.

    Args:
        layer: to be read.
        kind: nn.Conv1d or nn.Conv2d.
        groups: that it must have.
        biased: whether the kernels take a bias.
    """
    values = values_of(layer, kind)
    if values is None or (values[1] is not None and not biased):
        return None
    conv: Any = layer
    usual = (
        max(conv.stride + conv.dilation) == 1
        and conv.padding == tuple([k // 2 for k in conv.kernel_size])
        and conv.groups == groups
        and conv.padding_mode == "zeros"
    )
    return values if usual else None


def norm_of(norm: nn.Module | None, kind: type[nn.Module]) -> Norm | None:
    """Mean, variance, weight, bias and eps of a batch norm in evaluation; None if it is another.

    Without a norm the tensors are None.
    """
    if norm is None:
        return _NO_NORM
    affine = values_of(norm, kind)
    if affine is None or norm.training:
        return None
    mean, variance = norm._buffers["running_mean"], norm._buffers["running_var"]
    if mean is None or not readable(mean, variance):
        return None
    return mean, variance, *affine, norm.eps  # type: ignore[return-value]


def statistics_of(norm: Any) -> Statistics | None:
    """A batch norm's, in training or frozen; None if a training step does not take them."""
    if norm is None:
        return Statistics(None, None, 0.0, False, None, 0.0)
    mean, variance = norm._buffers["running_mean"], norm._buffers["running_var"]
    if not readable(mean, variance) or not full(mean, variance):
        return None
    counter, momentum = None, 0.0
    if norm.training:
        counter = norm._buffers["num_batches_tracked"]
        momentum = -1.0 if norm.momentum is None else norm.momentum
    return Statistics(mean, variance, norm.eps, norm.training or mean is None, counter, momentum)


def readable(*tensors: Tensor | None) -> bool:
    """Whether the kernels read these parameters; what is None is not there."""
    for t in tensors:
        if t is not None and not (
            type(t) in (Tensor, nn.Parameter)
            and t.is_cpu
            and t.dtype in _DTYPES
            and t.is_contiguous()
        ):
            return False
    return True
