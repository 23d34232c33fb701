"""Attention blocks, one per file. The folder is the registry: file name = block name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.core.names import suggest

if TYPE_CHECKING:
    from convattn.blocks._base import Block, Info

__all__ = ["block_class", "block_info", "block_names", "create_block", "list_blocks"]


def block_names() -> tuple[str, ...]:
    """Names of all blocks, sorted. Imports none of them."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))


def block_class(name: str) -> type[Block]:
    """The class of the block called `name`, which may be an alias.

    Raises:
        UnknownNameError: there is none; the text names the nearest.
    """
    key = name.lower().replace("-", "_") if isinstance(name, str) else ""
    if key in block_names():
        module = importlib.import_module(f"{__name__}.{key}")
        found: type[Block] = getattr(module, module.__all__[0])
        return found
    aliases: list[str] = []
    for other in block_names():
        candidate = block_class(other)
        if key in candidate.info.aliases:
            return candidate
        aliases += candidate.info.aliases
    raise UnknownNameError(f"no block named {name!r}; {suggest(str(name), block_names(), aliases)}")


def create_block(name: str, channels: int, **arguments: Any) -> Block:
    """Build a block by name.

    Args:
        name: a name from `list_blocks`, or an alias of it ("coordatt" for "ca").
        channels: C of the feature map (N, C, H, W).
        **arguments: the block's own; see its docstring or `block_info(name)`.

    Raises:
        UnknownNameError: no such block.
        ArgumentError: an argument that the block does not have, or a value that it refuses.
    """
    block = block_class(name)
    accepted = block_arguments(name)
    for argument in arguments:
        if argument not in accepted:
            raise ArgumentError(
                f"{name} has no argument {argument!r}; {suggest(argument, accepted)}"
            )
    return block(channels, **arguments)


def block_arguments(name: str) -> dict[str, Any]:
    """The block's own arguments and their defaults."""
    parameters = list(inspect.signature(block_class(name)).parameters.values())[1:]
    return {p.name: p.default for p in parameters}


def block_info(name: str) -> Info:
    """Paper, authors' repository, positions and deviations of a block."""
    return block_class(name).info


def list_blocks(family: str | None = None) -> dict[str, str]:
    """Block names with a one-sentence description each.

    Args:
        family: "gate", "context" or "conv"; None for all.
    """
    classes = {name: block_class(name) for name in block_names()}
    families = {c.family for c in classes.values()}
    if family is not None and family not in families:
        raise UnknownNameError(f"no family named {family!r}; {suggest(str(family), families)}")
    return {n: c.info.summary for n, c in classes.items() if family in (None, c.family)}
