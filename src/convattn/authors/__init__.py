"""The authors' code by name: their constructor arguments and state-dict keys, to ours and back.

One file per repository; each lists its sources in `SOURCES`.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Collection, Mapping
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any

from convattn.core.errors import ArgumentError, StateDictError, UnknownNameError
from convattn.core.names import suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from convattn.authors._source import Source

__all__ = ["create", "list_sources", "load_authors", "renamed", "to_authors"]


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
    if not isinstance(name, str) or name not in _sources():
        raise UnknownNameError(f"no source named {name!r}; {suggest(str(name), _sources())}")
    return _sources()[name]


def _check_module(module: object) -> None:
    from torch import nn

    if not isinstance(module, nn.Module):
        raise ArgumentError(f"module must be a torch.nn.Module, got {module!r}")


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


def load_authors(
    module: nn.Module, weights: Mapping[str, Any] | str | PathLike[str], *, source: str
) -> nn.Module:
    """Load weights under their authors' keys into our module, strictly.

    Args:
        module: what `create(source, ...)` builds, or an equal one.
        weights: the authors' state dict, or a file with it: of `torch.save`, read as tensors and
            plain values alone, or of safetensors. Wrappers such as {"state_dict": ...} and the
            prefix "module." of data-parallel training are removed. Of a network, the
            `num_batches_tracked` of its norms may all be missing, as before PyTorch 0.4.1.
        source: whose keys they are.

    Returns:
        `module`, changed in place; on an error it is left as it was.

    Raises:
        ArgumentError: `module` is none, or `weights` neither a state dict nor a path.
        UnknownNameError: no such source.
        StateDictError: keys are missing, unexpected or of another shape; all are named.
        CheckpointError: the file cannot be read, would run code, or holds no state dict.
    """
    from convattn.core.weights import plain_state_dict, read_weights

    _check_module(module)
    if not isinstance(weights, (Mapping, str, PathLike)):
        raise ArgumentError(f"weights must be a state dict or the path of a file, got {weights!r}")
    found = _find(source).fitting(module.state_dict())
    theirs = plain_state_dict(weights) if isinstance(weights, Mapping) else read_weights(weights)
    ours = module.state_dict()
    if found.adapt is not None:
        adapted = copy.deepcopy(module)  # the module itself once all fits
        found.adapt(adapted, theirs)
        ours = adapted.state_dict()
    wanted = {found.their_key(key): key for key in ours}
    theirs = _with_counters(theirs, {name: ours[key] for name, key in wanted.items()})
    shapes = {name: found.their_tensor(key, ours[key]).shape for name, key in wanted.items()}
    missing = [f"{name} {tuple(shape)}" for name, shape in shapes.items() if name not in theirs]
    unexpected = [f"{name} {tuple(t.shape)}" for name, t in theirs.items() if name not in wanted]
    differing = [
        f"{name} is {tuple(theirs[name].shape)}, expected {tuple(shape)}"
        for name, shape in shapes.items()
        if name in theirs and theirs[name].shape != shape
    ]
    if missing or unexpected or differing:
        raise StateDictError(
            f"the weights do not fit {type(module).__name__} from {source}, nothing was loaded: "
            f"{len(missing)} missing, {len(unexpected)} unexpected, {len(differing)} differently "
            "shaped."
            + _listed("Missing", missing)
            + _listed("Unexpected", unexpected)
            + _listed("Differently shaped", differing)
            + f"\nBuild the module with convattn.authors.create({source!r}, ...) and the arguments "
            "it was trained with."
        )
    if found.adapt is not None:
        found.adapt(module, theirs)
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
    if not isinstance(module, Mapping):
        _check_module(module)
    ours = module if isinstance(module, Mapping) else module.state_dict()
    found = _find(source).fitting(ours)
    theirs = {found.their_key(key): found.their_tensor(key, value) for key, value in ours.items()}
    return {name: theirs[name] for name in found.order(list(theirs))}


def renamed(
    weights: Mapping[str, Tensor], module: nn.Module, free: Collection[str] = ()
) -> dict[str, Tensor] | None:
    """A state dict of any source's under our names.

    Args:
        weights: a state dict under its authors' names.
        module: of ours; nothing is loaded.
        free: keys of ours that `weights` may have in other shapes, or not at all.

    Returns:
        The tensors in our shapes, and those that no key of ours stands for as they are; None if no
        source has the module's.
    """
    ours = module.state_dict()
    needed = [k for k in ours if k not in free and not k.endswith("num_batches_tracked")]
    for source in dict.fromkeys(_sources().values()):
        try:
            found = source.fitting(ours)
            wanted = {key: found.their_key(key) for key in ours}
        except (LookupError, ValueError):  # a network with layers that are not in that source
            continue
        if len(set(wanted.values())) == len(wanted) and all(
            wanted[key] in weights
            and weights[wanted[key]].shape == found.their_tensor(key, ours[key]).shape
            for key in needed
        ):
            back = {name: key for key, name in wanted.items()}
            tensors = {back.get(name, name): tensor for name, tensor in weights.items()}
            for key in needed:
                tensors[key] = tensors[key].reshape(ours[key].shape)
            return tensors
    return None


def _with_counters(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the norms' counters as they are here, where a whole network comes without any.

    PyTorch's own strict loading forgives that too. A single one may as well have been lost.
    """
    counters = {name: t for name, t in ours.items() if name.endswith("num_batches_tracked")}
    if len(counters) > 1 and counters.keys().isdisjoint(theirs):
        return {**counters, **theirs}
    return theirs


def _listed(what: str, keys: list[str]) -> str:
    return f"\n{what}: {'; '.join(keys)}." if keys else ""
