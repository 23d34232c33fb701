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

__all__ = ["create_model", "list_hosts", "list_models", "model_builder"]


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
    if not isinstance(name, str) or name not in _files():
        raise UnknownNameError(
            f"no model named {name!r}; {suggest(str(name), _files())}; those of other libraries "
            "are timm/NAME and torchvision/NAME"
        )
    return getattr(importlib.import_module(f"{__name__}.{_files()[name]}"), name)


def list_hosts() -> tuple[str, ...]:
    """Networks of timm and torchvision that `create_model` takes too, where they are installed."""
    from convattn.models._hosts import list_hosts

    return list_hosts()


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
    """Build a network, with blocks in its slots, or inserted where it has none.

    The network's own layers are initialised by its authors' rule before any block is made, so two
    networks built from the same random state share all host weights whatever the block.

    Args:
        name: a name from `list_models`, or "timm/NAME" or "torchvision/NAME" of those libraries;
            nothing is downloaded, the weights are random.
        attention: a block's name, "none" for the plain network; with its position "ca@before_add",
            or several of these, "se@stage_end,ca@after_depthwise".
        at: a position of the network, or anything else that `convattn.insert` takes as a text. In
            our networks None takes the one of the block's authors in this network, where they have
            one, else the network's usual position; in others, the first that the network has of
            the block's own positions, after_depthwise, before_add and stage_end.
        attention_args: arguments of the block, such as {"reduction": 16}; of several blocks, by
            their names, such as {"se": {"reduction": 16}}.
        attention_init: "authors", or "identity": the network computes at first what it computes
            without blocks.
        attention_stages: numbers of the stages that get blocks, from 1; None for all, or, with
            `at` None, for those of the authors.
        attention_per_stage: arguments of the block that differ by stage, such as
            {"kernel_size": [3, 5, 5, 7]}.
        **arguments: the network's own, such as width_mult and num_classes.

    Returns:
        The network; its attribute `origin` holds the arguments of this call, but for blocks that
        were inserted where it has no slot: `convattn.insertion.insertions` has those.

    Raises:
        MissingExtraError: the library of the network is not installed.
        UnknownNameError: no such network, block or position.
        ArgumentError: an argument that network or block do not have, or a value they refuse.
    """
    from convattn.blocks import block_class
    from convattn.core.inserts import parse_inserts
    from convattn.models._blocks import put_blocks
    from convattn.models._hosts import create_host

    for option, value in (("attention", attention), ("at", "" if at is None else at)):
        if not isinstance(value, str):
            raise ArgumentError(f"create_model: {option} must be a text, got {value!r}")
    inserts = parse_inserts(attention, at)
    for block, _ in inserts:
        block_class(block)  # a wrong name is refused before the network is built
    host = isinstance(name, str) and "/" in name
    model = create_host(name, **arguments) if host else _create(name, arguments)
    model.origin = {"name": name, **arguments}  # type: ignore[assignment]
    put_blocks(
        model,
        inserts,
        arguments=attention_args,
        init=attention_init,
        stages=attention_stages,
        per_stage=attention_per_stage,
    )
    return model


def _create(name: str, arguments: dict[str, Any]) -> nn.Module:
    builder = model_builder(name)
    accepted = inspect.signature(builder).parameters
    for argument in arguments:
        if argument not in accepted:
            raise ArgumentError(
                f"{name} has no argument {argument!r}; {suggest(argument, accepted)}"
            )
    try:
        model: nn.Module = builder(**arguments)
    except TypeError as error:  # a text where a number belongs
        raise ArgumentError(f"{name} cannot be built with {arguments!r}: {error}") from error
    return model
