"""The operator `convattn::strip_means` and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convattn.ops._library import OPERATORS, on_gpu, straight, takes
from convattn.ops._link import Link, linked_to
from convattn.ops.strip_means import reference

__all__ = ["strip_means"]

OPERATORS.define("strip_means(Tensor x) -> (Tensor, Tensor)")
_forward = torch.ops.convattn.strip_means.default
on_gpu("strip_means", "strip_means")


def strip_means(x: Tensor) -> tuple[Tensor, ...]:
    """Mean over all axes but one, for each axis: (N, C, H, W) -> (N, C, H), (N, C, W)."""
    if not takes(x):
        return reference.strip_means(x)
    if torch.compiler.is_compiling():
        return _forward(x)
    if torch.is_grad_enabled() and x.requires_grad:
        link = linked_to(x)
        rows, columns, token = _StripMeans.apply(x, link)
        if link is not None:
            link.token = token
        return rows, columns
    return _forward.redispatch(straight(x), x)


@torch.library.register_fake("convattn::strip_means", lib=OPERATORS)
def _fake(x: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    return x.new_empty(n, c, h), x.new_empty(n, c, w)


class _StripMeans(torch.autograd.Function):
    """The operator outside of compilation; see ops/_link.py on the token."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, link: Link | None) -> tuple[Tensor, Tensor, Tensor]:
        ctx.link, ctx.size = link, x.shape[2:]
        return (*_forward.redispatch(straight(x), x), x.new_empty(0))

    @staticmethod
    def backward(ctx: Any, rows: Tensor, columns: Tensor, token: Tensor) -> tuple[Tensor, None]:
        rest = None if ctx.link is None else ctx.link.taken()
        if rest is None:
            return _gradient(ctx, rows, columns), None
        height, width = ctx.size
        row, column = (rows / width)[..., None], (columns / height)[..., None, :]
        return rest(row=row, column=column), None


def _save(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.size = inputs[0].shape[2:]


def _gradient(ctx: Any, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = ctx.size
    return (rows / width)[..., None] + (columns / height)[..., None, :]


torch.library.register_autograd(
    "convattn::strip_means", _gradient, setup_context=_save, lib=OPERATORS
)
