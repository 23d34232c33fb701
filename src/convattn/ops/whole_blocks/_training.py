"""A block's training step as one operator, and all its gradients as another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convattn.ops._library import CPU, OPERATORS

__all__ = ["Parameters", "Results", "Training", "define_step", "full", "train"]

Parameters = tuple[Tensor | None, ...]
Results = tuple[Tensor, ...]


def define_step(
    name: str, arguments: str, results: int, fake: Callable[..., Results]
) -> Callable[..., Results]:
    """Register `convattn::name(arguments) -> results tensors`; returns its call, past autograd.

    Args:
        name: of the operator.
        arguments: its schema's.
        results: how many tensors it returns.
        fake: makes these without computing them.
    """
    OPERATORS.define(f"{name}({arguments}) -> ({', '.join(results * ['Tensor'])})")
    torch.library.register_fake(f"convattn::{name}", fake, lib=OPERATORS)
    operator = getattr(torch.ops.convattn, name).default

    def call(*given: Any) -> Results:
        made: Results = operator.redispatch(CPU, *given)
        return made

    return call


class Training(NamedTuple):
    """How a block trains. `settings` is what has no gradient, of any type.

    Attributes:
        step: (x, settings, parameters) -> the output, then what is kept for backward.
        gradients: (dy, x, kept, settings, parameters) -> those of x and of each parameter.
        steps: (x, settings, *parameters) -> the output by operators that have gradients themselves,
            through which gradients of gradients go.
    """

    step: Callable[[Tensor, Any, Parameters], Results]
    gradients: Callable[[Tensor, Tensor, Parameters, Any, Parameters], Parameters]
    steps: Callable[..., Tensor]


def train(training: Training, x: Tensor, settings: object, parameters: Parameters) -> Tensor | None:
    """The block's output for a feature map (N, C, H, W).

    None while compiling, and where not all is float32.
    """
    if torch.compiler.is_compiling() or not full(x, *parameters):
        return None
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
            inputs = [t for t, need in zip(aliases, wanted, strict=True) if need and t is not None]
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
