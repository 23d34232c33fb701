"""The operators `convattn::cbam_step` and `convattn::cbam_gradients`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops.whole_blocks._operator import Statistics
from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["CBAM"]

Settings = tuple[Statistics, bool, float]  # maximum_first, and the gates' scale


def _fake_step(x: Tensor, w1: Tensor, *rest: object) -> Results:
    n, c, h, w = x.shape
    maps = [x.new_empty(n, h, w) for _ in range(3)]
    return (
        torch.empty_like(x),
        x.new_empty(2 * n, c),
        x.new_empty((n, c), dtype=torch.int32),
        x.new_empty(2 * n, w1.shape[0]),
        x.new_empty(n, c, 1, 1),
        maps[0],
        x.new_empty((n, h, w), dtype=torch.int32),
        maps[1],
        maps[2],
        x.new_empty(4, dtype=torch.float64),
        x.new_empty(n, 1, h, w),
    )


def _fake_gradients(dy: Tensor, x: Tensor, *rest: object) -> Results:
    w1, w2, conv = (t for t in rest[10:13] if isinstance(t, Tensor))
    own = [t.new_empty(size) for t in (w1, w2) for size in (t.shape, t.shape[:1])]
    single = [x.new_empty(1) for _ in range(2)]
    return (torch.empty_like(x), *own, conv.new_empty(conv.shape), *single)


_step = define_step(
    "cbam_step",
    "Tensor x, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, Tensor conv, Tensor(a!)? mean,"
    " Tensor(b!)? variance, Tensor? gamma, Tensor? beta, float eps, bool batch,"
    " Tensor(c!)? counter, float momentum, bool maximum_first, float scale",
    11,
    _fake_step,
)
_gradients = define_step(
    "cbam_gradients",
    "Tensor dy, Tensor x, Tensor pooled, Tensor in_plane, Tensor hidden, Tensor channel,"
    " Tensor largest, Tensor in_channels, Tensor means, Tensor logits, Tensor norm,"
    " Tensor position, Tensor w1, Tensor w2, Tensor conv, bool batch, bool maximum_first,"
    " float scale",
    8,
    _fake_gradients,
)


def _forward(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    *layers, gamma, beta = parameters
    (mean, variance, *rest), *order = settings
    return _step(x, *layers, mean, variance, gamma, beta, *rest, *order)


def _backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> Results:
    w1, _, w2, _, conv, *_ = parameters
    norm, *order = settings
    return _gradients(dy, x, *kept, w1, w2, conv, norm.batch, *order)


def _steps(
    x: Tensor,
    settings: Settings,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    conv: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
) -> Tensor:
    norm, maximum_first, scale = settings
    pooled = (x.mean((2, 3)), x.flatten(2).max(2).values)
    mean, most = (F.linear(F.relu(F.linear(z, w1, b1)), w2, b2) for z in pooled)
    x = x * (scale * torch.sigmoid(mean + most))[..., None, None]
    planes = (x.mean(1), x.max(1).values)
    stacked = torch.stack(planes[::-1] if maximum_first else planes, 1)
    logits = F.conv2d(stacked, conv, padding=conv.shape[-1] // 2)
    return x * (scale * torch.sigmoid(norm.normed(logits, gamma, beta)))


# parameters: w1, b1, w2, b2, conv, and the norm's gamma and beta
CBAM = Training(_forward, _backward, _steps)
