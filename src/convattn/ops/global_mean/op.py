"""The operator `convattn::global_mean` and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convattn.ops._library import OPERATORS, SMALL, on_gpu, straight, takes
from convattn.ops._link import Link, linked_to
from convattn.ops.global_mean import reference

__all__ = ["global_mean"]

OPERATORS.define("global_mean(Tensor x) -> Tensor")
_forward = torch.ops.convattn.global_mean.default
on_gpu("global_mean", "global_mean")


def global_mean(x: Tensor) -> Tensor:
    """Mean over all positions: (N, C, *axes) -> (N, C)."""
    if not takes(x):
        return reference.global_mean(x)
    if torch.compiler.is_compiling():
        return _forward(x)
    if torch.is_grad_enabled() and x.requires_grad:
        if x.numel() < SMALL:
            return reference.global_mean(x)
        link = linked_to(x)
        mean, token = _GlobalMean.apply(x, link)
        if link is not None:
            link.token = token
        return mean
    return _forward.redispatch(straight(x), x)


@torch.library.register_fake("convattn::global_mean", lib=OPERATORS)
def _fake(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2])


class _GlobalMean(torch.autograd.Function):
    """The operator outside of compilation; see ops/_link.py on the token."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, link: Link | None) -> tuple[Tensor, Tensor]:
        ctx.link, ctx.shape = link, x.shape
        return _forward.redispatch(straight(x), x), x.new_empty(0)

    @staticmethod
    def backward(ctx: Any, d: Tensor, token: Tensor) -> tuple[Tensor, None]:
        rest = None if ctx.link is None else ctx.link.taken()
        if rest is None:
            return _gradient(ctx, d), None
        height, width = ctx.shape[2:]
        return rest(mean=(d / (height * width))[..., None, None]), None


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.shape = inputs[0].shape


def _gradient(ctx: Any, d: Tensor) -> Tensor:
    # divided before it is expanded: autograd adds it to other gradients without a map of its own
    height, width = ctx.shape[2:]
    return (d / (height * width))[..., None, None].expand(ctx.shape)


torch.library.register_autograd(
    "convattn::global_mean", _gradient, setup_context=_save, lib=OPERATORS
)
