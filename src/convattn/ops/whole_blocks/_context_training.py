"""GC in training: the operators `convattn::global_context_step` and `global_context_gradients`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["GC"]


def _fake_step(x: Tensor, mask: Tensor, w1: Tensor, *rest: object) -> Results:
    n, c, h, w = x.shape
    return (torch.empty_like(x), *(x.new_empty(n, k) for k in (h * w, c, w1.shape[0])))


def _fake_gradients(
    dy: Tensor, x: Tensor, weights: Tensor, context: Tensor, hidden: Tensor, mask: Tensor,
    w1: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float, w2: Tensor,
) -> Results:  # fmt: skip
    m, c = w1.shape
    first, second = w1.new_empty(w1.shape), w2.new_empty(w2.shape)
    norm = (w1.new_empty(m) for _ in range(3))  # with the first bias
    return (torch.empty_like(x), mask.new_empty(mask.shape), first, *norm, second, w2.new_empty(c))


_step = define_step(
    "global_context_step",
    "Tensor x, Tensor mask, Tensor w1, Tensor? b1, Tensor? gamma, Tensor? beta, float eps,"
    " Tensor w2, Tensor? b2",
    4,
    _fake_step,
)
_gradients = define_step(
    "global_context_gradients",
    "Tensor dy, Tensor x, Tensor weights, Tensor context, Tensor hidden, Tensor mask, Tensor w1,"
    " Tensor? gamma, Tensor? beta, float eps, Tensor w2",
    8,
    _fake_gradients,
)


def _forward(x: Tensor, eps: float, parameters: Parameters) -> Results:
    mask, _, w1, b1, gamma, beta, w2, b2 = parameters
    return _step(x, mask, w1, b1, gamma, beta, eps, w2, b2)


def _backward(
    dy: Tensor, x: Tensor, kept: Parameters, eps: float, parameters: Parameters
) -> Parameters:
    mask, bias, w1, _, gamma, beta, w2, _ = parameters
    dx, dmask, *rest = _gradients(dy, x, *kept, mask, w1, gamma, beta, eps, w2)
    # the softmax takes the mask's bias away
    return dx, dmask, None if bias is None else torch.zeros_like(bias), *rest


def _steps(
    x: Tensor,
    eps: float,
    mask: Tensor,
    bias: Tensor | None,
    w1: Tensor,
    b1: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
) -> Tensor:
    """The same by operators that have gradients themselves."""
    weights = F.conv2d(x, mask, bias).flatten(2).softmax(2)
    hidden = F.linear((x.flatten(2) @ weights.mT)[..., 0], w1, b1)
    hidden = F.relu(F.layer_norm(hidden, hidden.shape[1:], gamma, beta, eps))
    return x + F.linear(hidden, w2, b2)[..., None, None]


# parameters: weight and bias of the mask, w1, b1, gamma, beta, w2, b2
GC = Training(_forward, _backward, _steps)
