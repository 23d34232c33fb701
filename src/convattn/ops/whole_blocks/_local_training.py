"""The operators `convattn::local_attention_step` and `convattn::local_attention_gradients`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops.whole_blocks._training import Parameters, Results, Training, define_step

__all__ = ["ELA"]

_LAYERS = (
    "Tensor conv_h, Tensor? gamma_h, Tensor? beta_h, Tensor conv_w, Tensor? gamma_w,"
    " Tensor? beta_w, int groups, float eps, bool silu, float scale"
)
Settings = tuple[int, float, bool, float]  # groups and eps of the norms, silu, scale


def _fake_step(x: Tensor, *rest: object) -> Results:
    n, c, h, w = x.shape
    rows = [x.new_empty(n, c, h), x.new_empty(n, c, h, 1), x.new_empty(n, c, h, 1)]
    columns = [x.new_empty(n, c, w), x.new_empty(n, c, 1, w), x.new_empty(n, c, 1, w)]
    return (torch.empty_like(x), *rows, *columns)


def _fake_gradients(dy: Tensor, x: Tensor, *rest: object) -> Results:
    own = []
    for conv in (rest[6], rest[9]):
        assert isinstance(conv, Tensor)
        own += [conv.new_empty(conv.shape), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])]
    return (torch.empty_like(x), *own)


_step = define_step("local_attention_step", f"Tensor x, {_LAYERS}", 7, _fake_step)
_gradients = define_step(
    "local_attention_gradients",
    "Tensor dy, Tensor x, Tensor means_h, Tensor convolved_h, Tensor gates_h, Tensor means_w,"
    f" Tensor convolved_w, Tensor gates_w, {_LAYERS}",
    7,
    _fake_gradients,
)


def _forward(x: Tensor, settings: Settings, parameters: Parameters) -> Results:
    return _step(x, *parameters, *settings)


def _backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> Results:
    return _gradients(dy, x, *kept, *parameters, *settings)


def _steps(x: Tensor, settings: Settings, *parameters: Tensor) -> Tensor:
    groups, eps, silu, scale = settings
    gates = []
    for axis, z in enumerate((x.mean(3), x.mean(2))):
        weight, gamma, beta = parameters[3 * axis : 3 * axis + 3]
        per_group, length = weight.shape[1:]
        logits = F.conv1d(z, weight, None, 1, length // 2, 1, z.shape[1] // per_group)
        logits = torch.group_norm(logits, groups, gamma, beta, eps)
        gates.append(scale * torch.sigmoid(F.silu(logits) if silu else logits))
    return x * gates[0][..., None] * gates[1][:, :, None]


ELA = Training(_forward, _backward, _steps)  # parameters: of each axis conv, gamma, beta
