"""The operators `convattn::coordinate_attention_step` and `coordinate_attention_gradients`.

The map is read twice and written once, and again for its gradient; what the small network between
pooling and gates keeps is as small as the gates. Gradients of gradients go through `_steps`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops.mix_channels import mix_channels
from convattn.ops.whole_blocks._operator import Statistics
from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["CA"]

Settings = tuple[Statistics, bool, float]  # relu, and the gates' scale


def _fake_step(x: Tensor, w1: Tensor, *rest: object) -> Results:
    n, c, h, w = x.shape
    strips, lanes = n * c * (h + w) + 16, (w1.numel() // c + 16) // 16 * 16
    values = (strips, strips, n * (h + w) * lanes, 4 * lanes)
    return (torch.empty_like(x), *(x.new_empty(k) for k in values))


def _fake_gradients(
    dy: Tensor, x: Tensor, gates: Tensor, strips: Tensor, hidden: Tensor, norm: Tensor,
    w1: Tensor, wh: Tensor, ww: Tensor, *rest: object,
) -> Results:  # fmt: skip
    m, c = w1.shape[:2]
    own = [x.new_empty(m) for _ in range(3)]
    first, rows, columns = (t.new_empty(t.shape) for t in (w1, wh, ww))
    return torch.empty_like(x), first, *own, rows, x.new_empty(c), columns, x.new_empty(c)


_step = define_step(
    "coordinate_attention_step",
    "Tensor x, Tensor w1, Tensor? b1, Tensor(a!)? mean, Tensor(b!)? variance, Tensor? gamma,"
    " Tensor? beta, float eps, Tensor wh, Tensor? bh, Tensor ww, Tensor? bw, bool relu,"
    " float scale, bool batch, Tensor(c!)? counter, float momentum",
    5,
    _fake_step,
)
_gradients = define_step(
    "coordinate_attention_gradients",
    "Tensor dy, Tensor x, Tensor gates, Tensor strips, Tensor hidden, Tensor norm, Tensor w1,"
    " Tensor wh, Tensor ww, bool relu, float scale, bool batch",
    9,
    _fake_gradients,
)


def _forward(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    w1, b1, gamma, beta, wh, bh, ww, bw = parameters
    (mean, variance, eps, *moving), *rest = settings
    return _step(x, w1, b1, mean, variance, gamma, beta, eps, wh, bh, ww, bw, *rest, *moving)


def _backward(
    dy: Tensor,
    x: Tensor,
    kept: Parameters,
    settings: Settings,
    parameters: Parameters,
) -> Results:
    w1, wh, ww = parameters[0], parameters[4], parameters[6]
    norm, *rest = settings
    return _gradients(dy, x, *kept, w1, wh, ww, *rest, norm.batch)


def _steps(
    x: Tensor,
    settings: Settings,
    w1: Tensor,
    b1: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    wh: Tensor,
    bh: Tensor | None,
    ww: Tensor,
    bw: Tensor | None,
) -> Tensor:
    """The same by operators that have gradients themselves."""
    norm, relu, scale = settings
    f = mix_channels(torch.cat((x.mean(3), x.mean(2)), 2), w1, b1)
    f = norm.normed(f, gamma, beta)
    f = F.relu(f) if relu else F.hardswish(f)
    fh, fw = f.split(x.shape[2:], 2)
    rows = scale * torch.sigmoid(mix_channels(fh, wh, bh))
    columns = scale * torch.sigmoid(mix_channels(fw, ww, bw))
    return x * columns[:, :, None] * rows[..., None]


CA = Training(_forward, _backward, _steps)  # parameters: w1, b1, gamma, beta, wh, bh, ww, bw
