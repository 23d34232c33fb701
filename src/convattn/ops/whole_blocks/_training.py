"""A block's training step as one operator, and all its gradients as another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.ops.whole_blocks._operator import Layer, readable, values_of

__all__ = ["NO_NORM", "NormStep", "Parameters", "Training", "full", "norm_step", "normed", "train"]

Parameters = tuple[Tensor | None, ...]


class Training(NamedTuple):
    """How a block trains. `settings` is what has no gradient, of any type.

    Attributes:
        step: (x, settings, parameters) -> the output, then what is kept for backward.
        gradients: (dy, x, kept, settings, parameters) -> those of x and of each parameter.
        steps: (x, settings, *parameters) -> the output by operators that have gradients themselves,
            through which gradients of gradients go.
    """

    step: Callable[[Tensor, Any, Parameters], tuple[Tensor, ...]]
    gradients: Callable[[Tensor, Tensor, Parameters, Any, Parameters], tuple[Tensor, ...]]
    steps: Callable[..., Tensor]


class NormStep(NamedTuple):
    """What a batch norm does in a step, besides its weight and bias.

    Attributes:
        mean: running mean, None where there is none.
        variance: running variance.
        eps: of the norm.
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


NO_NORM = NormStep(None, None, 0.0, False, None, 0.0)


def norm_step(norm: Any, kind: type[nn.Module]) -> tuple[Layer, NormStep] | None:
    """Weight and bias of a batch norm, and its step; None if it is not a plain one of that kind."""
    affine = values_of(norm, kind)
    if affine is None:
        return None
    mean, variance = norm._buffers["running_mean"], norm._buffers["running_var"]
    if not readable(mean, variance) or not full(mean, variance):
        return None
    counter = norm._buffers["num_batches_tracked"] if norm.training else None
    momentum = -1.0 if norm.momentum is None else norm.momentum
    return affine, NormStep(
        mean, variance, norm.eps, norm.training or mean is None, counter, momentum
    )


def normed(x: Tensor, norm: NormStep, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """x behind the norm, without moving the running statistics; for `Training.steps`."""
    if not norm.batch and norm.mean is None:
        return x
    own = (None, None) if norm.batch else (norm.mean, norm.variance)
    return F.batch_norm(x, *own, gamma, beta, norm.batch, 0.0, norm.eps)


def train(training: Training, x: Tensor, settings: object, parameters: Parameters) -> Tensor:
    """The block's output for a feature map (N, C, H, W)."""
    y: Tensor = _Step.apply(x, training, settings, *parameters)
    return y


def full(*tensors: Tensor | None) -> bool:
    """Whether all are float32; what is None is not there."""
    return all(t is None or t.dtype is torch.float32 for t in tensors)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, training: Training, settings: Any, *parameters: Tensor | None
    ) -> Tensor:
        y, *kept = training.step(x, settings, parameters)
        ctx.save_for_backward(x, *parameters, *kept)
        ctx.training, ctx.settings, ctx.count = training, settings, len(parameters)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        parameters, kept = tuple(saved[: ctx.count]), tuple(saved[ctx.count :])
        wanted = (ctx.needs_input_grad[0], *ctx.needs_input_grad[3:])
        if torch.is_grad_enabled():
            # a parameter may be there twice: each of them has a gradient of its own
            aliases = [None if t is None else t.view_as(t) for t in (x, *parameters)]
            inputs = [t for t, need in zip(aliases, wanted, strict=True) if need]
            y = ctx.training.steps(aliases[0], ctx.settings, *aliases[1:])
            found = iter(torch.autograd.grad(y, inputs, dy, create_graph=True))
            dx, *rest = [next(found) if need else None for need in wanted]
        else:
            last = not x.is_contiguous()
            form = torch.channels_last if last else torch.contiguous_format
            dy = dy.contiguous(memory_format=form)
            every = ctx.training.gradients(dy, x, kept, ctx.settings, parameters)
            dx, *rest = [t if need else None for t, need in zip(every, wanted, strict=True)]
        return dx, None, None, *rest
