"""Run a model once on tensors without storage and tally every operator by the module that ran it.

The model itself is not run: its structure is copied with stand-ins for all tensors, so neither its
buffers, modes nor hooks can change, and nothing is allocated or computed.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from convattn.cost.conventions import CONVENTIONS
from convattn.cost.operators import is_free, products, spoken_name

__all__ = ["Tally", "run_counted"]


@dataclass
class Tally:
    """What one run of a batch did; keys are module paths, "" for the model itself.

    Attributes:
        operations: counted operations by the innermost module that was running.
        activations: output elements of convolutions and products, by module.
        shapes: shape of each module's first output tensor; modules that never ran are missing.
        inputs: shape of each module's first input tensor.
        uncounted: calls by name of operators that were not counted.
    """

    operations: Counter[str] = field(default_factory=Counter)
    activations: Counter[str] = field(default_factory=Counter)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    uncounted: Counter[str] = field(default_factory=Counter)


class _Counting(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, tally: Tally, running: list[str], convention: str) -> None:
        super().__init__()
        self.tally = tally
        self.running = running
        self.convention = CONVENTIONS[convention]
        self.last: dict[tuple[str, str], int] = {}  # of a module and an operator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):  # a higher-order operator hides its parts
            self.tally.uncounted[str(func)] += 1
            return func(*args, **kwargs)
        if func.namespace == "prim":
            return func(*args, **kwargs)
        with self:  # composite operators (linear, matmul, einsum) are counted by their parts
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        if not is_free(func):
            self._count(func, args, kwargs, out)
        return out

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        path, name = self.running[-1], spoken_name(func)
        if products(func, args, kwargs, out) is not None:
            first = out[0] if isinstance(out, (tuple, list)) else out
            self.tally.activations[path] += first.numel()
        operations = self.convention.count(func, args, kwargs, out)
        if operations is None:
            self.tally.uncounted[name] += 1
            return
        if name in self.convention.last_alone:
            replaced = self.last.get((path, name), 0)
            self.last[path, name] = operations
            operations -= replaced
        self.tally.operations[path] += operations


@contextmanager
def _tracked(model: nn.Module, tally: Tally, running: list[str]) -> Iterator[None]:
    """Keep `running` at the paths of the modules being called; hooks go on no module."""
    paths = {id(module): path for path, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        running.append(paths.get(id(module), running[-1]))
        shape = _first_shape(args)
        if id(module) in paths and shape is not None:
            tally.inputs[running[-1]] = shape

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        path = running.pop()
        shape = _first_shape(output)
        if id(module) in paths and shape is not None:
            tally.shapes[path] = shape

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first_shape(output: Any) -> tuple[int, ...] | None:
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return next((s for s in map(_first_shape, output) if s is not None), None)
    return None


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():  # plain attributes, which might not even be deep-copied
        yield from (v for v in vars(module).values() if isinstance(v, Tensor))


def run_counted(model: nn.Module, input_size: tuple[int, ...], convention: str) -> Tally:
    """Tally one run of `model` in eval mode.

    Where the path through the model depends on values (a detector's boxes), stand-ins cannot
    say it; then a copy of the model runs on uniform noise from a fixed seed.

    Args:
        model: not changed.
        input_size: of its one input; dtype and device follow the model's first parameter.
        convention: a key of `CONVENTIONS`.

    Raises:
        Exception: whatever the model raises on such an input.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    options: dict[str, Any] = {}
    if first is not None:
        options = {"dtype": first.dtype, "device": first.device}
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # tensors in lists have no stand-in
    stand_ins: dict[int, Any] = {id(t): fake.from_tensor(t) for t in _tensors(model)}
    twin = copy.deepcopy(model, stand_ins)
    with fake:
        x = torch.empty(input_size, **options)
        try:
            return _run(twin, x, convention)
        except (
            DataDependentOutputException,
            DynamicOutputShapeException,
            UnsupportedFakeTensorException,
        ):
            pass
    noise = torch.rand(input_size, generator=torch.Generator().manual_seed(0)).to(**options)
    return _run(copy.deepcopy(model), noise, convention)


def _run(model: nn.Module, x: Tensor, convention: str) -> Tally:
    tally, running = Tally(), [""]
    # torch's fused transformer path would hide its products from the count
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), _tracked(model, tally, running):
            model.eval()
            with _Counting(tally, running, convention):
                model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return tally
