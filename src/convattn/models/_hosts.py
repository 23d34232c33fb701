"""Networks of timm and torchvision by name, without their pretrained weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from convattn.core.errors import ArgumentError, MissingExtraError, UnknownNameError
from convattn.core.names import require, suggest

if TYPE_CHECKING:
    from torch import nn

__all__ = ["create_host", "list_hosts"]

# with these the libraries would fetch or read weights by themselves
_WEIGHTS = ("pretrained", "pretrained_cfg", "checkpoint_path", "weights", "weights_backbone")


def list_hosts() -> tuple[str, ...]:
    """Names that `create_host` takes, of the libraries that are installed.

    Raises:
        MissingExtraError: none of them is.
    """
    found: list[str] = []
    for library, (names, _) in _LIBRARIES.items():
        with suppress(MissingExtraError):
            found += [f"{library}/{name}" for name in names()]
    if not found:
        require("timm", "timm")
    return tuple(sorted(found))


def create_host(name: str, **arguments: Any) -> nn.Module:
    """Build a network of another library with random weights.

    Args:
        name: "timm/NAME" (with or without the tag of its weights) or "torchvision/NAME", of a
            classifier.
        **arguments: the library's own, such as num_classes.

    Raises:
        UnknownNameError: no such library or network; the nearest are named.
        ArgumentError: the network refuses an argument, or it asks for weights.
        MissingExtraError: the library is not installed.
    """
    library, _, plain = name.partition("/")
    if library not in _LIBRARIES:
        raise UnknownNameError(
            f"no library {library!r} in {name!r}; {suggest(library, _LIBRARIES)}"
        )
    names, build = _LIBRARIES[library]
    known = names()
    if plain.partition(".")[0] not in known or (library != "timm" and plain not in known):
        near = difflib.get_close_matches(plain.lower(), known, n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(f'{library}/{one}' for one in near)}? " if near else ""
        raise UnknownNameError(
            f"{library} has no network {plain!r}; {hint}(has {len(known):,}; see `convattn list "
            "hosts`)"
        )
    asked = [argument for argument in arguments if argument in _WEIGHTS]
    if asked:
        raise ArgumentError(
            f"{name} was asked for {asked[0]}={arguments[asked[0]]!r}, but nothing is downloaded "
            "here; load a file of weights instead, in a run with --checkpoint FILE"
        )
    try:
        return build(plain, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ArgumentError(f"{name} cannot be built with {arguments!r}: {error}") from error


def _timm_names() -> list[str]:
    return list(require("timm", "timm").list_models())


def _timm(name: str, **arguments: Any) -> nn.Module:
    model: nn.Module = require("timm", "timm").create_model(name, pretrained=False, **arguments)
    return model


def _torchvision_names() -> list[str]:
    models = require("torchvision.models", "train")
    return list(models.list_models(module=models))  # without those for detection, video and so on


def _torchvision(name: str, **arguments: Any) -> nn.Module:
    models = require("torchvision.models", "train")
    model: nn.Module = models.get_model(name, weights=None, **arguments)
    return model


_LIBRARIES: dict[str, tuple[Callable[[], list[str]], Callable[..., nn.Module]]] = {
    "timm": (_timm_names, _timm),
    "torchvision": (_torchvision_names, _torchvision),
}
