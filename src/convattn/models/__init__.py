"""The authors' networks. A builder's name in a file's `__all__` is the model's name."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.core.names import suggest

if TYPE_CHECKING:
    from torch import nn

    from convattn.blocks._base import Block
    from convattn.insertion.slots import Where

__all__ = ["create_model", "list_models", "model_builder"]


@cache
def _files() -> dict[str, str]:
    """Model name -> module; read from the sources, so that listing imports no torch."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        source = Path(__path__[0], f"{module.name}.py")
        if module.name[0] == "_" or not source.is_file():
            continue
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                names = ast.literal_eval(node.value)
                found.update({name: module.name for name in names if name.islower()})
    return found


def list_models() -> tuple[str, ...]:
    """Names of all networks, sorted."""
    return tuple(sorted(_files()))


def model_builder(name: str) -> Callable[..., nn.Module]:
    """What builds a network, without blocks, from its own arguments.

    Raises:
        UnknownNameError: no such network.
    """
    if name not in _files():
        raise UnknownNameError(f"no model named {name!r}; {suggest(str(name), _files())}")
    return getattr(importlib.import_module(f"{__name__}.{_files()[name]}"), name)


def create_model(
    name: str,
    *,
    attention: str = "none",
    at: str | None = None,
    attention_args: dict[str, Any] | None = None,
    attention_init: str = "authors",
    attention_stages: Sequence[int] | None = None,
    attention_per_stage: Mapping[str, Sequence[Any]] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build a network, with a block in each of its slots at one position.

    The network's own layers are initialised by its authors' rule before any block is made, so two
    networks built from the same random state share all host weights whatever the block.

    Args:
        name: a name from `list_models`.
        attention: a block's name, "none" for the plain network.
        at: a position of the network; None takes the one of the block's authors in this network,
            where they have one, else the network's usual position.
        attention_args: arguments of the block, such as {"reduction": 16}.
        attention_init: "authors", or "identity": the network computes at first what it computes
            without blocks.
        attention_stages: numbers of the stages that get blocks, from 1; None for all, or, with
            `at` None, for those of the authors.
        attention_per_stage: arguments of the block that differ by stage, such as
            {"kernel_size": [3, 5, 5, 7]}.
        **arguments: the network's own, such as width_mult and num_classes.

    Returns:
        The network; its attribute `origin` holds the arguments of this call.

    Raises:
        UnknownNameError: no such network, block or position.
        ArgumentError: an argument that network or block do not have, or a value they refuse.
    """
    from convattn.blocks import block_class
    from convattn.insertion.slots import fill_slots

    builder = model_builder(name)
    accepted = inspect.signature(builder).parameters
    for argument in arguments:
        if argument not in accepted:
            raise ArgumentError(
                f"{name} has no argument {argument!r}; {suggest(argument, accepted)}"
            )
    kind = block_class(attention)  # a wrong name is refused before the network is built
    try:
        model = builder(**arguments)
    except TypeError as error:  # a text where a number belongs
        raise ArgumentError(f"{name} cannot be built with {arguments!r}: {error}") from error
    if attention != "none" or at is not None:
        for where in _places(model, kind, at, attention_stages):
            fill_slots(
                model,
                attention,
                where,
                init=attention_init,
                per_stage=attention_per_stage,
                **(attention_args or {}),
            )
    elif attention_args or attention_per_stage or attention_stages:
        refused = attention_args or attention_per_stage or attention_stages
        raise ArgumentError(
            f"arguments of a block, {refused!r}, given without a block; name one with attention=..."
        )
    options = {
        "at": at,
        "attention_args": attention_args,
        "attention_init": attention_init,
        "attention_stages": attention_stages,
        "attention_per_stage": attention_per_stage,
    }
    given = {option: value for option, value in options.items() if value is not None}
    model.origin = {"name": name, "attention": attention, **given, **arguments}  # type: ignore[assignment]
    return model


def _places(
    model: nn.Module, kind: type[Block], at: str | None, stages: Sequence[int] | None
) -> list[Where]:
    """Where blocks of a kind go in a network."""
    from convattn.insertion.slots import Where

    name = kind.__module__.rpartition(".")[2]
    usual = (Where(str(model.default_position)),)
    places = getattr(model, "places", {}).get(name, usual) if at is None else (Where(at),)
    if stages is None:
        return list(places)
    return [Where(at, tuple(stages)) for at in dict.fromkeys(place.at for place in places)]
