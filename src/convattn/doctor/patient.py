"""A copy of the model under examination, and ways to run it without harm."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convattn.doctor.trace import Trace, traced

__all__ = ["Patient", "close", "error_text", "hidden_layers", "items", "noise", "outputs"]


@dataclass
class Patient:
    """What a check examines.

    Attributes:
        model: a copy, in eval mode; a check leaves it so and leaves its state as it was.
        x: images, at least two.
        y: the copy's outputs for them.
        trace: the operators of that run.
        given: whether the user gave the images, else noise.
    """

    model: nn.Module
    x: Tensor
    y: list[Tensor]
    trace: Trace
    given: bool = False

    @classmethod
    def admit(cls, model: nn.Module, x: Tensor, *, given: bool = False) -> Patient:
        """Copy, run once; raises whatever the model raises."""
        copied = copy.deepcopy(model).eval()
        first = next(copied.parameters(), None)
        if first is not None:
            x = x.to(first.device, first.dtype)
        with traced(copied) as trace:
            y = outputs(copied, x.clone())
        return cls(copied, x, y, trace, given)

    def fresh(self) -> nn.Module:
        """Another copy, for a check that changes it."""
        return copy.deepcopy(self.model)

    @contextmanager
    def training(self) -> Iterator[nn.Module]:
        """Another copy, in training mode, dropout off so that runs can be compared."""
        model = self.fresh().train()
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        yield model

    def run(self, x: Tensor) -> list[Tensor]:
        """Outputs in eval mode; `x` itself is never handed over."""
        with torch.no_grad():
            return outputs(self.model, x.clone())

    def repeats(self) -> bool:
        """Whether two runs agree; not with `y`, which may come from the same random state."""
        return close(self.run(self.x), self.run(self.x), 1e-5)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The floating tensors in what the model returns."""
    leaves = tree_leaves(model(x))
    return [y for y in leaves if isinstance(y, Tensor) and y.is_floating_point()]


def hidden_layers(model: nn.Module) -> list[nn.Module]:
    """Modules kept in plain lists, tuples or dicts, which torch does not see."""
    registered = {id(m) for m in model.modules()}
    return [
        item
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules")
        for item in items(value)
        if isinstance(item, nn.Module) and id(item) not in registered
    ]


def items(value: Any) -> list[Any]:
    """What a value holds, through plain lists, tuples and dicts."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        return [item for each in value for item in items(each)]
    return [value]


def close(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-4) -> bool:
    """Equal up to rounding of another order of summation; NaN equals NaN."""
    if [t.shape for t in a] != [t.shape for t in b]:
        return False
    return all(
        torch.allclose(p, q, rtol=tolerance, equal_nan=True, atol=tolerance * _scale(q))
        for p, q in zip(a, b, strict=True)
    )


def _scale(t: Tensor) -> float:
    finite = t[t.isfinite()]
    return float(finite.abs().mean()) if finite.numel() else 0.0


def error_text(error: BaseException) -> str:
    """One line: the type, and what it says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = lines[0].strip()[:200] if lines else ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def noise(*size: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)
