"""SE and ECA in training: the operators `convattn::NAME_step` and `convattn::NAME_gradients`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["ECA", "SE"]

Settings = tuple[bool, float]  # relu6 or circular, and the gate's scale


def _fake_se(x: Tensor, w1: Tensor, *rest: object) -> Results:
    n, c = x.shape[:2]
    sizes = ((n, c), (n, w1.shape[0]), (n, c, 1, 1))
    return (torch.empty_like(x), *(x.new_empty(size) for size in sizes))


def _fake_se_gradients(
    dy: Tensor, x: Tensor, means: Tensor, hidden: Tensor, gate: Tensor, w1: Tensor, w2: Tensor,
    *rest: object,
) -> Results:  # fmt: skip
    own = [t.new_empty(size) for t in (w1, w2) for size in (t.shape, t.shape[:1])]
    return (torch.empty_like(x), *own)


def _fake_eca(x: Tensor, *rest: object) -> Results:
    n, c = x.shape[:2]
    return torch.empty_like(x), x.new_empty(n, c), x.new_empty(n, c, 1, 1)


def _fake_eca_gradients(
    dy: Tensor, x: Tensor, means: Tensor, gate: Tensor, weight: Tensor, *rest: object
) -> Results:
    return torch.empty_like(x), weight.new_empty(weight.shape)


_se_step = define_step(
    "squeeze_excitation_step",
    "Tensor x, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, bool relu6, float scale",
    4,
    _fake_se,
)
_se_gradients = define_step(
    "squeeze_excitation_gradients",
    "Tensor dy, Tensor x, Tensor means, Tensor hidden, Tensor gate, Tensor w1, Tensor w2,"
    " bool relu6, float scale",
    5,
    _fake_se_gradients,
)
_eca_step = define_step(
    "efficient_channel_attention_step",
    "Tensor x, Tensor weight, bool circular, float scale",
    3,
    _fake_eca,
)
_eca_gradients = define_step(
    "efficient_channel_attention_gradients",
    "Tensor dy, Tensor x, Tensor means, Tensor gate, Tensor weight, bool circular, float scale",
    2,
    _fake_eca_gradients,
)


def _se(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    return _se_step(x, *parameters, *settings)


def _se_backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> Results:
    w1, _, w2, _ = parameters
    return _se_gradients(dy, x, *kept, w1, w2, *settings)


def _se_by_steps(
    x: Tensor,
    settings: Settings,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
) -> Tensor:
    relu6, scale = settings
    hidden = F.linear(x.mean((2, 3)), w1, b1)
    hidden = F.relu6(hidden) if relu6 else F.relu(hidden)
    return x * (scale * torch.sigmoid(F.linear(hidden, w2, b2)))[..., None, None]


def _eca(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    return _eca_step(x, *parameters, *settings)


def _eca_backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> Results:
    return _eca_gradients(dy, x, *kept, *parameters, *settings)


def _eca_by_steps(x: Tensor, settings: Settings, weight: Tensor) -> Tensor:
    circular, scale = settings
    pad = weight.shape[-1] // 2
    means = x.mean((2, 3))[:, None]
    if pad:
        means = F.pad(means, (pad, pad), "circular" if circular else "constant")
    return x * (scale * torch.sigmoid(F.conv1d(means, weight)))[:, 0, :, None, None]


SE = Training(_se, _se_backward, _se_by_steps)  # parameters: w1, b1, w2, b2
ECA = Training(_eca, _eca_backward, _eca_by_steps)  # of the kernel
