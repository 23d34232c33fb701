"""`cost(model)`: parameters, multiply-accumulates and activations, per layer and in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.parameter import is_lazy

from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError, InputError, UnknownNameError
from convattn.core.names import suggest
from convattn.cost.conventions import CONVENTIONS
from convattn.cost.counter import Tally, run_counted
from convattn.cost.result import Cost, Row

__all__ = ["check_input_size", "cost"]


def cost(
    model: nn.Module,
    input_size: Sequence[int] = (1, 3, 224, 224),
    *,
    convention: str = "conv+linear",
) -> Cost:
    """Count what one forward pass in eval mode costs; nothing is computed or allocated for it.

    The model stays as it is. Numbers are for one sample, whatever batch `input_size` has.

    Args:
        model: a network or a block with one input.
        input_size: of that input with the batch, such as (1, 3, 224, 224).
        convention: "conv+linear", as the CA paper counts, "all-ops", or that of a tool which
            tables were made with; the rules are in `convattn.cost.conventions`.

    Raises:
        UnknownNameError: no such convention.
        ArgumentError: `input_size` is no list of sizes, or the model is not initialised.
        InputError: the model fails on this size; the cause is chained.

    Example:
        >>> from convattn import cost, create_model
        >>> cost(create_model("mobilenet_v2", attention="ca")).parameters
        3950648
    """
    if convention not in CONVENTIONS:
        raise UnknownNameError(
            f"cost: no convention named {convention!r}; {suggest(str(convention), CONVENTIONS)}"
        )
    size = check_input_size("cost", input_size)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"cost: model must be a torch.nn.Module, got {model!r}")
    if any(is_lazy(p) for p in model.parameters()):
        raise ArgumentError(
            f"cost: {type(model).__name__} has lazy layers without a size yet; run it once on "
            "an input, then count"
        )
    try:
        tally = run_counted(model, size, convention)
    except Exception as error:
        raise InputError(
            f"cost: {type(model).__name__} fails on input size {size}: {error}{_hint(size)}"
        ) from error
    rows = tuple(_rows(model, tally, size[0]))
    blocks = {
        path: (type(module).__name__, tally.shapes.get(path, ()))
        for path, module in model.named_modules()
        if isinstance(module, Block)
    }
    return Cost(
        model=type(model).__name__,
        input_size=size,
        convention=convention,
        parameters=sum(row.parameters for row in rows),
        macs=sum(row.macs for row in rows),
        activations=sum(row.activations for row in rows),
        uncounted=dict(tally.uncounted.most_common()),
        rows=rows,
        blocks=blocks,
        block_inputs={path: tally.inputs[path] for path in blocks if path in tally.inputs},
    )


def check_input_size(owner: str, input_size: object) -> tuple[int, ...]:
    """`input_size` as a tuple, or `ArgumentError` unless it is two or more positive integers."""
    if (
        not isinstance(input_size, Sequence)
        or isinstance(input_size, (str, bytes))
        or len(input_size) < 2
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in input_size)
    ):
        raise ArgumentError(
            f"{owner}: input_size must be positive integers, batch first, such as "
            f"(1, 3, 224, 224); got {input_size!r}"
        )
    return tuple(input_size)


def _hint(size: tuple[int, ...]) -> str:
    if len(size) != 3:
        return ""
    return f". The batch comes first: for one image use {(1, *size)}"


def _rows(model: nn.Module, tally: Tally, batch: int) -> Iterator[Row]:
    """A row per leaf, and per other module that holds parameters or operations itself."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        held = 0
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                held += parameter.numel()
        leaf = next(module.children(), None) is None
        operations = tally.operations[path]
        if not leaf and not held and not operations and not isinstance(module, Block):
            continue
        yield Row(
            path=path,
            type=type(module).__name__ + ("" if leaf else " (own)"),
            output_shape=tally.shapes.get(path, ()),
            parameters=held,
            # what a model does once for the whole batch is spread over it, rounded up
            macs=-(-operations // batch),
            activations=-(-tally.activations[path] // batch),
        )
