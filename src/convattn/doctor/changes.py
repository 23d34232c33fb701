"""Known mistakes, made to our block on purpose: the one that makes it equal theirs is theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convattn.blocks._base import ContextBlock, GateBlock
from convattn.ops import apply_gates

__all__ = ["CHANGES", "Change", "run_changed"]

Rewrite = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Change:
    """A mistake: which torch functions it replaces, by what; and how it is reported."""

    code: str
    what: str
    fix: str
    functions: frozenset[Any]
    rewrite: Rewrite


class _Changed(TorchFunctionMode):
    def __init__(self, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.changes = changes

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for change in self.changes:
            if func in change.functions:
                return change.rewrite(func, args, kwargs)
        return func(*args, **kwargs)


def run_changed(block: nn.Module, x: Tensor, changes: tuple[Change, ...]) -> Tensor:
    """Our block's output with these mistakes made."""
    with _Changed(tuple(c for c in changes if c.functions)):
        y: Tensor = block(x)
    for change in changes:
        if not change.functions:
            y = change.rewrite(block, (x, y), {})
    return y


def _activation(to: Callable[[Tensor], Tensor]) -> Rewrite:
    return lambda func, args, kwargs: to(args[0])


def _softmax_over(axis: int | None) -> Rewrite:
    def rewrite(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0] if axis is None else args[0].softmax(axis)

    return rewrite


def _mean_for_max(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) < 2:
        return func(*args, **kwargs)
    _, indices = func(*args, **kwargs)
    return torch.return_types.max((args[0].mean(*args[1:], **kwargs), indices))


def _max_for_mean(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    axes = (args[1:] or (kwargs.get("dim"),))[0]
    if axes is None:
        return func(*args, **kwargs)
    return args[0].amax(axes, kwargs.get("keepdim", False))


def _swapped_axes(block: Any, values: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the gates of the transposed map do to the map; on squares only."""
    x, y = values
    if not isinstance(block, GateBlock) or x.shape[-1] != x.shape[-2]:
        return y
    return apply_gates(x, block.gates(x.mT))


def _gate_alone(block: Any, values: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, y = values
    return apply_gates(torch.ones_like(x), block.gates(x)) if isinstance(block, GateBlock) else y


def _context_alone(block: Any, values: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, y = values
    return y - x if isinstance(block, ContextBlock) else y


def _reversed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors, axis = args[0], (args[1:] or (kwargs.get("dim", 0),))[0]
    pair = len(tensors) == 2 and axis == 1
    return func(tuple(reversed(tensors)) if pair else tensors, axis)


_SIGMOID = frozenset((torch.sigmoid, Tensor.sigmoid, F.sigmoid))
_SOFTMAX = frozenset((torch.softmax, Tensor.softmax, F.softmax))
_RELU = frozenset((F.relu, torch.relu, Tensor.relu))
_KEEP = "Follow the definition; `convattn list` names the block's options."

CHANGES = (
    Change(
        "missing-gate",
        "There is no sigmoid: the map is multiplied by unbounded, also negative, factors.",
        "Put torch.sigmoid round what the map is multiplied by.",
        _SIGMOID,
        _activation(lambda t: t),
    ),
    Change(
        "relu-before-sigmoid",
        "A ReLU runs in front of the sigmoid: no gate is ever below one half.",
        "Remove the activation between the last layer or norm and the sigmoid.",
        _SIGMOID,
        _activation(lambda t: t.relu().sigmoid()),
    ),
    Change(
        "other-gate",
        "The gate is a hard sigmoid where the authors have the logistic function.",
        "Use torch.sigmoid, or say that it is a variant.",
        _SIGMOID,
        _activation(F.hardsigmoid),
    ),
    Change(
        "missing-softmax",
        "The weights of the attention pooling are used without their softmax.",
        "Use the softmax's result: softmax is not in place.",
        _SOFTMAX,
        _softmax_over(None),
    ),
    Change(
        "batch-leak",
        "A softmax runs over axis 0, the images of the batch.",
        "Name its axis: softmax(dim=-1) over the positions.",
        _SOFTMAX,
        _softmax_over(0),
    ),
    *(
        Change(
            "other-activation",
            f"The hidden activation is {name}, the authors' is another.",
            _KEEP,
            functions,
            _activation(to),
        )
        for name, to, functions in (
            ("ReLU", F.relu, frozenset((F.hardswish,))),
            ("SiLU", F.silu, frozenset((F.hardswish, F.relu, torch.relu, Tensor.relu))),
            ("h-swish", F.hardswish, _RELU),
            ("ReLU6", F.relu6, _RELU),
            ("missing", lambda t: t, _RELU | {F.hardswish}),
        )
    ),
    Change(
        "ignored-normalisation",
        "The normalisation is not applied.",
        "Call the norm layer where the definition has it.",
        frozenset((F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm)),
        _activation(lambda t: t),
    ),
    Change(
        "missing-branch",
        "A mean is used where the authors take the maximum.",
        "Pool by maximum in that branch.",
        frozenset((torch.max, Tensor.max)),
        _mean_for_max,
    ),
    Change(
        "swapped-order",
        "The two pooled maps are concatenated in the other order: the authors' weights load and "
        "mean something else.",
        "Exchange the two tensors in torch.cat.",
        frozenset((torch.cat, torch.stack)),
        _reversed,
    ),
    Change(
        "other-pooling",
        "Maxima are taken where the authors take means.",
        "Pool by mean.",
        frozenset((torch.mean, Tensor.mean)),
        _max_for_mean,
    ),
    Change(
        "swapped-axes",
        "The gates of rows and columns have changed places.",
        "Follow each strip from its mean to its gate.",
        frozenset(),
        _swapped_axes,
    ),
    Change(
        "gate-alone",
        "The gate is returned, the map is not multiplied by it.",
        "Return x * gate, or multiply where the block is called.",
        frozenset(),
        _gate_alone,
    ),
    Change(
        "missing-residual",
        "The context is returned without the map that it is added to.",
        "Return x + context, or add where the block is called.",
        frozenset(),
        _context_alone,
    ),
    Change(
        "extra-residual",
        "The input is added to the block's output.",
        "Return x * gate alone; the shortcut belongs to the network.",
        frozenset(),
        lambda block, values, _: values[1] + values[0],
    ),
)
