"""The operators `convattn::triplet_step` and `convattn::triplet_gradients`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops.whole_blocks._operator import Statistics
from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["TRIPLET"]

_AXES = ("_cw", "_hc", "_hw")
_BRANCH = (
    "Tensor conv{0}, Tensor(a{0}!)? mean{0}, Tensor(b{0}!)? variance{0}, Tensor? gamma{0},"
    " Tensor? beta{0}, float eps{0}, bool batch{0}, Tensor(c{0}!)? counter{0}, float momentum{0}, "
)
Settings = tuple[tuple[Statistics, ...], float]  # of the branches, and the gates' scale


def _fake_step(x: Tensor, *rest: object) -> Results:
    n, c, h, w = x.shape
    values = n * (c * w + c * h + h * w)
    kept = [x.new_empty(values) for _ in range(3)]
    places = x.new_empty(values, dtype=torch.int32)
    gates, norms = x.new_empty(values + 16), x.new_empty(12, dtype=torch.float64)
    return torch.empty_like(x), gates, kept[0], places, kept[1], kept[2], norms


def _fake_gradients(
    dy: Tensor, x: Tensor, gates: Tensor, largest: Tensor, places: Tensor, means: Tensor,
    logits: Tensor, norms: Tensor, *rest: object,
) -> Results:  # fmt: skip
    own = []
    for weight in rest[:3]:
        assert isinstance(weight, Tensor)
        own += [weight.new_empty(weight.shape), x.new_empty(1), x.new_empty(1)]
    return (torch.empty_like(x), *own)


_step = define_step(
    "triplet_step",
    f"Tensor x, {''.join(_BRANCH.format(axes) for axes in _AXES)}float scale",
    7,
    _fake_step,
)
_gradients = define_step(
    "triplet_gradients",
    "Tensor dy, Tensor x, Tensor gates, Tensor largest, Tensor places, Tensor means,"
    " Tensor logits, Tensor norms, Tensor conv_cw, Tensor conv_hc, Tensor conv_hw, bool batch_cw,"
    " bool batch_hc, bool batch_hw, float scale",
    10,
    _fake_gradients,
)


def _forward(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    norms, scale = settings
    arguments: list[object] = []
    for branch, (mean, variance, *rest) in enumerate(norms):
        weight, gamma, beta = parameters[3 * branch : 3 * branch + 3]
        arguments += weight, mean, variance, gamma, beta, *rest
    return _step(x, *arguments, scale)


def _backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> Results:
    norms, scale = settings
    batch = (norm.batch for norm in norms)
    return _gradients(dy, x, *kept, *parameters[::3], *batch, scale)


def _steps(x: Tensor, settings: Settings, *parameters: Tensor) -> Tensor:
    norms, scale = settings
    gates = []
    for branch, axis in enumerate((2, 3, 1)):
        weight, gamma, beta = parameters[3 * branch : 3 * branch + 3]
        turned = x.transpose(1, axis)
        pooled = torch.stack((turned.max(1).values, turned.mean(1)), 1)
        logits = F.conv2d(pooled, weight, padding=weight.shape[-1] // 2)
        logits = norms[branch].normed(logits, gamma, beta)
        gates.append(torch.sigmoid(logits).transpose(1, axis))
    return x * (scale / 3 * (gates[0] + gates[1] + gates[2]))


TRIPLET = Training(_forward, _backward, _steps)  # parameters: of each branch weight, gamma, beta
