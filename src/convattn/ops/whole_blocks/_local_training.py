"""The operators `convattn::local_attention_step` and `convattn::local_attention_gradients`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.ops._library import CPU, OPERATORS
from convattn.ops.whole_blocks._training import Parameters, Training

__all__ = ["ELA"]

_LAYERS = (
    "Tensor conv_h, Tensor? gamma_h, Tensor? beta_h, Tensor conv_w, Tensor? gamma_w,"
    " Tensor? beta_w, int groups, float eps, bool silu, float scale"
)
OPERATORS.define(f"local_attention_step(Tensor x, {_LAYERS}) -> ({', '.join(7 * ['Tensor'])})")
OPERATORS.define(
    "local_attention_gradients(Tensor dy, Tensor x, Tensor means_h, Tensor convolved_h,"
    f" Tensor gates_h, Tensor means_w, Tensor convolved_w, Tensor gates_w, {_LAYERS})"
    f" -> ({', '.join(7 * ['Tensor'])})"
)
_step = torch.ops.convattn.local_attention_step.default
_gradients = torch.ops.convattn.local_attention_gradients.default


Settings = tuple[int, float, bool, float]  # groups and eps of the norms, silu, scale


def _forward(x: Tensor, settings: Settings, parameters: Parameters) -> tuple[Tensor, ...]:
    made: tuple[Tensor, ...] = _step.redispatch(CPU, x, *parameters, *settings)
    return made


def _backward(
    dy: Tensor, x: Tensor, kept: Parameters, settings: Settings, parameters: Parameters
) -> tuple[Tensor, ...]:
    made: tuple[Tensor, ...] = _gradients.redispatch(CPU, dy, x, *kept, *parameters, *settings)
    return made


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


@torch.library.register_fake("convattn::local_attention_step", lib=OPERATORS)
def _fake_step(x: Tensor, *rest: object) -> tuple[Tensor, ...]:
    n, c, h, w = x.shape
    rows = [x.new_empty(n, c, h), x.new_empty(n, c, h, 1), x.new_empty(n, c, h, 1)]
    columns = [x.new_empty(n, c, w), x.new_empty(n, c, 1, w), x.new_empty(n, c, 1, w)]
    return (torch.empty_like(x), *rows, *columns)


@torch.library.register_fake("convattn::local_attention_gradients", lib=OPERATORS)
def _fake_gradients(dy: Tensor, x: Tensor, *rest: object) -> tuple[Tensor, ...]:
    own = []
    for conv in (rest[6], rest[9]):
        assert isinstance(conv, Tensor)
        own += [conv.new_empty(conv.shape), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])]
    return (torch.empty_like(x), *own)
