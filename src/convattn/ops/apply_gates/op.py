"""The operator `convattn::apply_gates`, its gradients, and which gates it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convattn.ops._library import OPERATORS, SMALL, on_gpu, straight, takes
from convattn.ops._link import Link
from convattn.ops.apply_gates import reference

__all__ = ["apply_gates"]

OPERATORS.define("apply_gates(Tensor x, Tensor a, Tensor? b=None) -> Tensor")
OPERATORS.define(
    "gate_gradients(Tensor dy, Tensor x, Tensor a, Tensor? b=None) -> (Tensor, Tensor)"
)
OPERATORS.define(
    "map_gradient(Tensor dy, Tensor a, Tensor? b=None, Tensor? mean=None, Tensor? row=None,"
    " Tensor? column=None) -> Tensor"
)
_forward = torch.ops.convattn.apply_gates.default
_gate_gradients = torch.ops.convattn.gate_gradients.default
_map_gradient = torch.ops.convattn.map_gradient.default
for _name in ("apply_gates", "gate_gradients", "map_gradient"):
    on_gpu(_name, "apply_gates")

_LARGE = 1 << 23  # values; smaller results mostly lie where earlier ones did
# By which axes a gate extends; the pairs that csrc/kernels/gates.h has code for.
_PAIRS = {("ch", "cw"), ("cw", "ch"), ("c", "hw")}


def _kind(gate: Tensor, x: Tensor) -> str:
    n, c, h, w = x.shape
    if gate.dim() != 4 or gate.device != x.device or gate.dtype not in (x.dtype, torch.float32):
        return ""
    shape = gate.shape
    if shape == (n, c, 1, 1):
        return "c"
    if shape == (n, c, h, 1):
        return "ch"
    if shape == (n, c, 1, w):
        return "cw"
    return "hw" if shape == (n, 1, h, w) else ""


def apply_gates(x: Tensor, gates: tuple[Tensor, ...], link: Link | None = None) -> Tensor:
    """y = x * gates[0] * gates[1] * ..., from left to right.

    Args:
        x: feature map (N, C, H, W); not changed.
        gates: tensors that broadcast to x, such as (N, C, 1, 1), (N, 1, H, W) or (N, C, H, 1).
        link: to the pooling of x that the gates come from, if there was one.

    Returns:
        A new tensor of x's shape and dtype.
    """
    if 1 <= len(gates) <= 2 and takes(x):
        kinds = tuple(_kind(gate, x) for gate in gates)
        if kinds in _PAIRS if len(gates) == 2 else kinds[0]:
            a, b = (*(g if g.dtype == x.dtype else g.to(x.dtype) for g in gates), None)[:2]
            if torch.compiler.is_compiling():
                return _forward(x, a, b)
            if torch.is_grad_enabled() and (x.requires_grad or any(g.requires_grad for g in gates)):
                if b is not None or x.numel() >= SMALL:
                    token = None if link is None else link.token
                    return _ApplyGates.apply(x, a, b, token, link)
            # one gate is one multiplication; PyTorch's is as good, but for a large result's memory
            elif b is not None or (x.is_cpu and x.numel() >= _LARGE):
                return _forward.redispatch(straight(x), x, a, b)
    return reference.apply_gates(x, gates)


@torch.library.register_fake("convattn::apply_gates", lib=OPERATORS)
def _fake(x: Tensor, a: Tensor, b: Tensor | None = None) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("convattn::gate_gradients", lib=OPERATORS)
def _fake_gate_gradients(
    dy: Tensor, x: Tensor, a: Tensor, b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    db = x.new_empty(0, dtype=torch.float32) if b is None else b.new_empty(b.shape)
    return a.new_empty(a.shape), db


@torch.library.register_fake("convattn::map_gradient", lib=OPERATORS)
def _fake_map_gradient(
    dy: Tensor,
    a: Tensor,
    b: Tensor | None = None,
    mean: Tensor | None = None,
    row: Tensor | None = None,
    column: Tensor | None = None,
) -> Tensor:
    return torch.empty_like(dy)


def _as_map(dy: Tensor, x: Tensor) -> Tensor:
    """In the format of x."""
    last = not x.is_contiguous()
    return dy.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _known_steps(
    dy: Tensor, x: Tensor, a: Tensor, b: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients by operators that have gradients themselves."""
    if b is None:
        return dy * a, (dy * x).sum_to_size(a.shape), None
    through = dy * b
    return through * a, (through * x).sum_to_size(a.shape), (dy * x * a).sum_to_size(b.shape)


class _ApplyGates(torch.autograd.Function):
    """The operator outside of compilation, at the cost of a built-in one.

    With a link the map's gradient is left to the pooling, whose own is added in the same pass; the
    token makes the pooling's turn come after this one's.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor | None, token: Tensor | None, link: Link | None
    ) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.link = None if token is None else link
        return _forward.redispatch(straight(x), x, a, b)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b = ctx.saved_tensors
        of_token = None if ctx.link is None else dy.new_zeros(0)
        if torch.is_grad_enabled():
            return (*_known_steps(dy, x, a, b), of_token, None)
        dy = _as_map(dy, x)
        dx, da, db = None, None, None
        if any(ctx.needs_input_grad[1:3]):
            da, db = _gate_gradients(dy, x, a, b)
        if ctx.link is not None:
            ctx.link.hand_over(lambda **pooled: _map_gradient(dy, a, b, **pooled))
        elif ctx.needs_input_grad[0]:
            dx = _map_gradient(dy, a, b)
        return dx, da, None if b is None else db, of_token, None


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, a, b = ctx.saved_tensors
    if torch.is_grad_enabled():
        return _known_steps(dy, x, a, b)
    dy = _as_map(dy, x)
    da, db = _gate_gradients(dy, x, a, b)
    return _map_gradient(dy, a, b), da, None if b is None else db


torch.library.register_autograd(
    "convattn::apply_gates", _gradients, setup_context=_save, lib=OPERATORS
)
