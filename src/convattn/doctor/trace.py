"""Which operators a model runs, in which module, and which values its gates take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["Call", "GateValues", "Trace", "traced"]

LOGISTIC = ("sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_")
# what leaves a gate a gate: moving it, scaling it, averaging it with others
_CARRY = frozenset((
    "view", "_unsafe_view", "unsqueeze", "squeeze", "expand", "permute", "transpose", "t",
    "reshape", "select", "slice", "clone", "_to_copy", "copy_", "contiguous", "split", "unbind",
    "add", "sub", "mul", "div", "add_", "mul_", "div_", "cat", "stack", "alias", "detach",
    "rsub", "mean", "upsample_nearest2d", "upsample_bilinear2d", "repeat", "split_with_sizes",
    "clamp", "flip",
))  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One operator call.

    Attributes:
        name: of the operator, such as "mean"; its overload left out.
        path: of the innermost module that ran it.
        args: as called, each tensor replaced by its shape.
        sources: for each tensor argument the operator that made it, "" for inputs and parameters.
    """

    name: str
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sources: tuple[str, ...]


@dataclass
class GateValues:
    """Values of one logistic function whose output multiplies something else.

    Attributes:
        path: of the module that computes it.
        low: share of the values below 0.01.
        high: share of the values above 0.99.
        spread: standard deviation over all images, channels and positions.
        mean: of all values.
        spread_over_images: of the gates' means, at each channel and position; NaN for one image.
    """

    path: str
    low: float
    high: float
    spread: float
    mean: float
    spread_over_images: float
    confirmed: bool = field(default=False)


class Trace(TorchDispatchMode):
    """Records the calls made inside; see `traced`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._path: list[str] = []
        self._made_by: Any = WeakIdKeyDictionary()  # tensor -> name of the operator
        self._gates: Any = WeakIdKeyDictionary()  # tensor -> [(its values, the logits)]
        self._found: list[GateValues] = []

    @property
    def gates(self) -> list[GateValues]:
        """What the model multiplied by."""
        return [gate for gate in self._found if gate.confirmed]

    @property
    def names(self) -> set[str]:
        """Of all operators called."""
        return {call.name for call in self.calls}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and note it."""
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        sources = tuple(self._made_by.get(tensor, "") for tensor in tensors)
        shapes = tuple(tuple(a.shape) if isinstance(a, Tensor) else a for a in args)
        self.calls.append(Call(name, self._here(), shapes, dict(kwargs), sources))
        self._confirm(name, tensors)
        result = func(*args, **kwargs)
        carried = [pair for tensor in tensors for pair in self._gates.get(tensor, [])]
        made_by = name
        if name in _MOVES and tensors:
            made_by = self._made_by.get(tensors[0], "")
        for output in tree_leaves(result):
            if not isinstance(output, Tensor):
                continue
            self._made_by[output] = made_by
            if name in LOGISTIC and output.is_floating_point():
                values = _values(self._here(), output)
                self._found.append(values)
                self._gates[output] = [(values, tensors[0])]
            elif name in _CARRY and carried:
                self._gates[output] = carried
        return result

    def _here(self) -> str:
        return self._path[-1] if self._path else ""

    def _confirm(self, name: str, tensors: list[Tensor]) -> None:
        """A logistic output is a gate once it multiplies something other than its own logits."""
        if name not in ("mul", "mul_") or len(tensors) != 2:
            return
        for gate, other in (tensors, tensors[::-1]):
            for values, logits in self._gates.get(gate, []):
                if logits is not other:
                    values.confirmed = True


_MOVES = frozenset((
    "view", "_unsafe_view", "unsqueeze", "squeeze", "expand", "permute", "transpose", "t",
    "select", "slice", "clone", "_to_copy", "alias", "detach",
))  # fmt: skip


def _values(path: str, gate: Tensor) -> GateValues:
    values = gate.detach().double()
    count = max(values.numel(), 1)
    over_images = float("nan")
    if values.dim() > 1 and values.shape[0] > 1:
        over_images = float(values.std(0).mean())
    return GateValues(
        path,
        float((values < 0.01).sum()) / count,
        float((values > 0.99).sum()) / count,
        float(values.std(correction=0)) if values.numel() else 0.0,
        float(values.mean()) if values.numel() else 0.0,
        over_images,
    )


@contextmanager
def traced(model: nn.Module) -> Iterator[Trace]:
    """Record what the model runs inside; its hooks are removed again."""
    trace = Trace()
    handles = []
    for path, module in model.named_modules():

        def enter(module: nn.Module, args: tuple[Any, ...], path: str = path) -> None:
            trace._path.append(path)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            if trace._path:
                trace._path.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        with trace, torch.no_grad():
            yield trace
    finally:
        for handle in handles:
            handle.remove()
