"""The authors' code by name: their constructor arguments and state-dict keys, to ours and back.

One file per repository; each lists its sources in `SOURCES`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from convattn.core.errors import ArgumentError, StateDictError, UnknownNameError
from convattn.core.names import suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from convattn.authors._source import Source

__all__ = ["create", "list_sources", "load_authors", "to_authors"]


@cache
def _sources() -> dict[str, Source]:
    found: dict[str, Source] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name[0] != "_":
            for source in importlib.import_module(f"{__name__}.{module.name}").SOURCES:
                for name in source.names:
                    if name in found:
                        raise RuntimeError(f"source {name!r} is listed twice")
                    found[name] = source
    return found


def _find(name: str) -> Source:
    try:
        return _sources()[name]
    except KeyError:
        raise UnknownNameError(
            f"no source named {name!r}; {suggest(str(name), _sources())}"
        ) from None


def list_sources() -> tuple[str, ...]:
    """All sources, each "owner/repo:file:class"."""
    return tuple(sorted(_sources()))


def create(source: str, **arguments: Any) -> nn.Module:
    """Build our block or network from its authors' constructor arguments.

    Args:
        source: "owner/repo:file:class" from `list_sources`.
        **arguments: as the authors name them.

    Raises:
        UnknownNameError: no such source.
        ArgumentError: the authors' class has no such argument, or the value is refused.
    """
    build = _find(source).build
    try:
        return build(**arguments)
    except TypeError as error:  # a wrong or missing argument, named by Python's own text
        raise ArgumentError(f"{source}: {error}") from error


def load_authors(module: nn.Module, state_dict: Mapping[str, Any], *, source: str) -> nn.Module:
    """Load a state dict under its authors' keys into our module, strictly.

    Args:
        module: what `create(source, ...)` builds, or an equal one.
        state_dict: the authors' state dict; a wrapper {"state_dict": ...} and the prefix
            "module." of data-parallel training are removed.
        source: whose keys they are.

    Returns:
        `module`, changed in place; on an error it is left as it was.

    Raises:
        UnknownNameError: no such source.
        StateDictError: keys are missing, unexpected or of another shape; all are named.
    """
    found = _find(source)
    theirs = _unwrap(state_dict)
    if found.adapt is not None:
        found.adapt(module, theirs)
    ours = module.state_dict()
    wanted = {found.their_key(key): key for key in ours}
    shapes = {name: found.their_tensor(key, ours[key]).shape for name, key in wanted.items()}
    missing = [name for name in wanted if name not in theirs]
    unexpected = [name for name in theirs if name not in wanted]
    differing = [
        f"{name} is {tuple(theirs[name].shape)}, expected {tuple(shapes[name])}"
        for name in wanted
        if name in theirs and theirs[name].shape != shapes[name]
    ]
    if missing or unexpected or differing:
        raise StateDictError(
            f"the state dict does not fit {type(module).__name__} from {source}: "
            f"{_count('missing', missing)}, {_count('unexpected', unexpected)}, "
            f"{_count('differently shaped', differing)}. Build the module with "
            f"convattn.authors.create({source!r}, ...) and the arguments it was trained with."
        )
    module.load_state_dict(
        {key: theirs[name].reshape(ours[key].shape) for name, key in wanted.items()}
    )
    return module


def to_authors(module: nn.Module | Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """A state dict under its authors' keys and shapes, in their order.

    Args:
        module: our module, or a mapping from our keys to tensors, such as averaged weights.
        source: whose keys are wanted.
    """
    found = _find(source)
    ours = module if isinstance(module, Mapping) else module.state_dict()
    theirs = {found.their_key(key): found.their_tensor(key, value) for key, value in ours.items()}
    return {name: theirs[name] for name in found.order(list(theirs))}


def _unwrap(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    inner = state_dict.get("state_dict", state_dict)
    if inner and all(key.startswith("module.") for key in inner):
        inner = {key.removeprefix("module."): value for key, value in inner.items()}
    return dict(inner)


def _count(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")
