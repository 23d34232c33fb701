"""SRM in training: the operators `convattn::style_recalibration_step` and `..._gradients`."""

from __future__ import annotations

import torch
from torch import Tensor

from convattn.ops.whole_blocks._operator import Statistics
from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["SRM"]

Settings = tuple[Statistics, bool, float]  # unbiased, and the gate's scale


def _fake_step(x: Tensor, *rest: object) -> Results:
    n, c = x.shape[:2]
    styles, norm = (x.new_empty(size, dtype=torch.float64) for size in ((2, n, c), (2, c)))
    return torch.empty_like(x), styles, norm, x.new_empty(n, c, 1, 1)


def _fake_gradients(
    dy: Tensor, x: Tensor, styles: Tensor, norm: Tensor, gate: Tensor, weights: Tensor,
    *rest: object,
) -> Results:  # fmt: skip
    c = x.shape[1]
    return torch.empty_like(x), weights.new_empty(c, 2), x.new_empty(c), x.new_empty(c)


_step = define_step(
    "style_recalibration_step",
    "Tensor x, Tensor weights, Tensor(a!)? mean, Tensor(b!)? variance, Tensor? gamma,"
    " Tensor? beta, float eps, bool unbiased, float scale, bool batch, Tensor(c!)? counter,"
    " float momentum",
    4,
    _fake_step,
)
_gradients = define_step(
    "style_recalibration_gradients",
    "Tensor dy, Tensor x, Tensor styles, Tensor norm, Tensor gate, Tensor weights,"
    " Tensor? gamma, bool unbiased, float scale, bool batch",
    4,
    _fake_gradients,
)


def _forward(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    (mean, variance, eps, *moving), *rest = settings
    weights, gamma, beta = parameters
    return _step(x, weights, mean, variance, gamma, beta, eps, *rest, *moving)


def _backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> Results:
    norm, *rest = settings
    weights, gamma, _ = parameters
    return _gradients(dy, x, *kept, weights, gamma, *rest, norm.batch)


def _steps(
    x: Tensor, settings: Settings, weights: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> Tensor:
    """The same by operators that have gradients themselves."""
    norm, unbiased, scale = settings
    places = x.flatten(2)
    mean, count = places.mean(2), places.shape[2]
    squares = (places - mean[..., None]).square().sum(2)
    deviation = (squares / (max(count - 1, 1) if unbiased else count) + 1e-5).sqrt()
    style = (torch.stack((mean, deviation), 2) * weights).sum(2)
    return x * (scale * torch.sigmoid(norm.normed(style, gamma, beta)))[..., None, None]


SRM = Training(_forward, _backward, _steps)  # parameters: weights, gamma, beta
