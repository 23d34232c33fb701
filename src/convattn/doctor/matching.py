"""Which form of our block has the layers of another implementation, and how its weights go over."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convattn.blocks import block_arguments, block_class, create_block
from convattn.core.errors import ConvattnError
from convattn.doctor.patient import hidden_layers, noise

__all__ = ["Form", "filled", "forms", "pairings", "share", "units"]

_NUMBERS: dict[str, tuple[Any, ...]] = {
    "reduction": (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 64),
    "min_hidden": (1, 4, 8, 16, 32),
    "kernel_size": (1, 3, 5, 7, 9, 11, 49),
    "groups": (1, 2, 4, 8, 16, 32, 64),
    "dilation": (1, 2, 4),
    "passes": (1, 2, 3),
    "hidden": (4, 8, 16, 32, 64, 128),
    "pools": (("avg",), ("max",), ("avg", "avg"), ("max", "max")),
}
ROUNDS = 4  # options that may differ at once
BEAM = 24
MOST_PAIRINGS = 96

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """A layer with a weight, or a bare parameter.

    Attributes:
        path: its name in the state dict, "conv1" or "scale".
        kind: "norm", "mix" (convolutions and linear layers) or "bare".
        shape: of the weight, axes of length 1 left out: a linear layer and a 1x1 convolution agree.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    weight: nn.Parameter
    bias: nn.Parameter | None = None


@dataclass(frozen=True)
class Form:
    """Our block with these arguments besides the ones asked for, and how far its layers are off."""

    changes: tuple[tuple[str, Any], ...]
    block: nn.Module
    distance: float


def units(module: nn.Module, used: set[str] | None = None) -> list[Unit]:
    """Its layers in their order; only those with a key in `used`, where given."""
    found = []
    for path, layer in module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if used is not None:
            own = {k: p for k, p in own.items() if f"{path}.{k}".lstrip(".") in used}
        if "weight" in own and set(own) <= {"weight", "bias"} and _is_layer(layer):
            kind = "norm" if "norm" in type(layer).__name__.lower() else "mix"
            found.append(_unit(path, kind, own["weight"], own.get("bias")))
        else:
            found += [_unit(f"{path}.{k}".lstrip("."), "bare", p) for k, p in own.items()]
    return found


def _is_layer(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("torch.nn") or isinstance(
        layer,
        nn.modules.conv._ConvNd
        | nn.Linear
        | nn.modules.batchnorm._NormBase
        | nn.LayerNorm
        | nn.GroupNorm,
    )


def _unit(path: str, kind: str, weight: nn.Parameter, bias: nn.Parameter | None = None) -> Unit:
    first = tuple(weight.shape[:1]) if kind == "mix" else ()  # (1, C) is not (C, 1)
    rest = weight.shape[len(first) :]
    return Unit(path, kind, (*first, *(n for n in rest if n != 1)), weight, bias)


def distance(theirs: list[Unit], ours: list[Unit]) -> float:
    """0 for the same layers; 1 for each layer that only one has, 0.25 for each bias."""
    a, b = (Counter((u.kind, u.shape) for u in each) for each in (theirs, ours))
    layers = sum(((a - b) + (b - a)).values())
    a, b = (Counter((u.kind, u.shape) for u in each if u.bias is None) for each in (theirs, ours))
    return layers + 0.25 * sum(((a - b) + (b - a)).values()) * (layers == 0)


def forms(name: str, channels: int, asked: Arguments, theirs: list[Unit]) -> list[Form]:
    """The forms of our block whose layers are nearest to theirs, fewest changes first."""
    seen: dict[tuple[tuple[str, Any], ...], Form] = {}

    def add(changes: Arguments) -> None:
        key = tuple(sorted(changes.items()))
        if key not in seen:
            try:
                block = create_block(name, channels, **{**asked, **changes}).double()
            except (ConvattnError, TypeError):
                return
            seen[key] = Form(key, block, distance(theirs, units(block)))

    add({})
    choices = [(k, v) for k, v in _options(name, channels) if k not in asked]
    for _ in range(ROUNDS):
        ranked = sorted(seen.values(), key=lambda f: (f.distance, len(f.changes)))[:BEAM]
        for form in ranked:
            for key, value in choices:
                if key not in dict(form.changes):
                    add({**dict(form.changes), key: value})
        nearest = min(f.distance for f in seen.values())
        if nearest == 0 or not choices:
            break
    ranked = sorted(seen.values(), key=lambda f: (f.distance, len(f.changes)))
    return [form for form in ranked if form.distance == ranked[0].distance]


def _options(name: str, channels: int) -> Iterator[tuple[str, Any]]:
    """Every value of every option that another implementation may have chosen."""
    defaults = block_arguments(name)
    for argument in inspect.signature(block_class(name)).parameters.values():
        kind = str(argument.annotation)
        values: list[Any] = [*_NUMBERS.get(argument.name, ())]
        if "bool" in kind:
            values = [True, False]
        elif "str" in kind and "tuple" not in kind:
            # a block states its choices in one place only, the error of a wrong one
            try:
                create_block(name, channels, **{argument.name: "?"})
            except ConvattnError as error:
                said = str(error).split("must be one of")[-1].split("; got")[0]
                values = re.findall(r"'(\w+)'", said)
        for value in values:
            if value != defaults.get(argument.name):
                yield argument.name, value


def pairings(theirs: list[Unit], ours: list[Unit]) -> Iterator[list[tuple[Unit, Unit]]]:
    """Ways to pair equal layers, first in their order, then with equal ones exchanged."""
    groups: dict[tuple[str, tuple[int, ...]], tuple[list[Unit], list[Unit]]] = {}
    for side, each in enumerate((theirs, ours)):
        for unit in each:
            groups.setdefault((unit.kind, unit.shape), ([], []))[side].append(unit)
    orders: list[list[list[tuple[Unit, Unit]]]] = []
    for a, b in groups.values():
        many = math.factorial(len(b)) > 24
        tried = [tuple(b), tuple(b[::-1])] if many else [*itertools.permutations(b)]
        orders.append([[*zip(a, order, strict=True)] for order in tried])
    for parts in itertools.islice(itertools.product(*orders), MOST_PAIRINGS):
        yield [pair for part in parts for pair in part]


@torch.no_grad()
def share(theirs: nn.Module, ours: nn.Module, pairs: list[tuple[Unit, Unit]]) -> list[str]:
    """Give our layers their weights; a bias that only one side has is zeroed, and named.

    Args:
        theirs: a copy of the module whose units are paired.
        ours: a copy of our block.
        pairs: (their unit, our unit).
    """
    a, b = dict(theirs.named_parameters()), dict(ours.named_parameters())
    alone = []
    for t, o in pairs:
        bare = t.kind == "bare"
        weights = (t.path, o.path) if bare else (f"{t.path}.weight", f"{o.path}.weight")
        biases = (f"{t.path}.bias", f"{o.path}.bias")
        b[weights[1]].copy_(a[weights[0]].reshape(b[weights[1]].shape))
        if t.bias is not None and o.bias is not None:
            b[biases[1]].copy_(a[biases[0]].reshape(b[biases[1]].shape))
        elif t.bias is not None:
            a[biases[0]].zero_()
            alone.append(biases[0])
        elif o.bias is not None:
            b[biases[1]].zero_()
            alone.append(f"no {t.path}.bias")
    return alone


@torch.no_grad()
def filled(module: nn.Module, scale: float = 1.0, seed: int = 1) -> nn.Module:
    """Random parameters and statistics, so that none that starts at zero hides a branch."""
    module = module.double()
    for layer in hidden_layers(module):
        layer.double()
    for i, parameter in enumerate(module.parameters()):
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 2
        values: Tensor = noise(*parameter.shape, seed=100 * seed + i, dtype=torch.float64)
        parameter.copy_(values * scale / max(fan_in, 1) ** 0.5)
    return module
