"""The implementation to be audited: import its file, build it for a number of channels."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convattn.core.errors import ArgumentError, DataNotFoundError
from convattn.core.names import suggest
from convattn.doctor.patient import error_text

__all__ = ["NotConstructibleError", "Target", "find_target"]

CHANNELS = frozenset((
    "c", "c1", "ch", "chan", "channel", "channels", "channel_in", "channels_in", "cin", "dim",
    "dims", "feature", "features", "gate_channel", "gate_channels", "in_ch", "in_channel",
    "in_channels", "in_dim", "in_features", "in_planes", "inchannels", "inp", "inplanes",
    "input_channel", "input_channels", "input_dim", "n_channels", "nc", "nin", "num_channels",
    "num_features", "planes", "d_model",
))  # fmt: skip
OUT_CHANNELS = frozenset((
    "c2", "channel_out", "channels_out", "cout", "nout", "ouc", "oup", "out", "out_ch",
    "out_channel", "out_channels", "out_dim", "out_features", "out_planes", "outchannels",
    "outp", "outplanes", "output_channels",
))  # fmt: skip
HEIGHT, WIDTH = frozenset(("h", "height", "map_h")), frozenset(("w", "width", "map_w"))


class NotConstructibleError(Exception):
    """The class accepts the arguments and then fails inside its own code."""


@dataclass(frozen=True)
class Target:
    """What is audited.

    Attributes:
        title: of the class, and of its file.
        make: the class, or a function that returns a copy of the given module.
        arguments: fixed by the user.
        parameters: of its constructor, without the fixed ones.
        size: H and W that it is built for, if its constructor asks for them.
    """

    title: str
    make: Callable[..., nn.Module]
    arguments: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[inspect.Parameter, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def is_module(self) -> bool:
        """Whether a module was given rather than a class."""
        return not isinstance(self.make, type)

    @property
    def takes_out_channels(self) -> bool:
        """Whether its constructor has an argument for the channels of the output."""
        return any(p.name.lower() in OUT_CHANNELS for p in self.parameters)

    def channels(self) -> int | None:
        """The number of channels among the user's arguments."""
        found = [v for k, v in self.arguments.items() if k.lower() in CHANNELS]
        return found[0] if found and isinstance(found[0], int) else None

    def build(self, channels: int, out_channels: int | None = None) -> nn.Module:
        """A new module.

        Raises:
            ArgumentError: an argument is required that its name does not explain.
            NotConstructibleError: its own code fails.
        """
        if self.is_module:
            return self.make()
        values = {**self._values(channels, out_channels or channels), **self.arguments}
        try:
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(0)
                made = self.make(**values)
        except Exception as error:
            raise NotConstructibleError(error_text(error)) from error
        if not isinstance(made, nn.Module):
            raise ArgumentError(f"{self.title} is no torch.nn.Module")
        return made

    def _values(self, channels: int, out_channels: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        height, width = self.size or (8, 6)
        unexplained = []
        for i, parameter in enumerate(self.parameters):
            name, required = parameter.name.lower(), parameter.default is parameter.empty
            # of several names for channels only the first is surely that of the input
            if name in CHANNELS and (required or channels not in values.values()):
                values[parameter.name] = channels
            elif name in OUT_CHANNELS:
                values[parameter.name] = out_channels
            elif self.size and name in HEIGHT:
                values[parameter.name] = height
            elif self.size and name in WIDTH:
                values[parameter.name] = width
            elif required and i == 0:  # most blocks take the channels first, by whatever name
                values[parameter.name] = channels
            elif required:
                unexplained.append(parameter.name)
        if unexplained:
            raise ArgumentError(
                f"{self.title} needs {', '.join(unexplained)}; give them as "
                f"arguments={{{unexplained[0]!r}: ...}}"
            )
        return values


def find_target(target: object, arguments: Mapping[str, Any] | None) -> Target:
    """Resolve "path/to/file.py:Class", a class or a module.

    Raises:
        DataNotFoundError: no such file.
        ArgumentError: the file cannot be imported, has no such class, or an argument is not its.
    """
    given = dict(arguments or {})
    if isinstance(target, str):
        target = _imported(target)
    if isinstance(target, nn.Module):
        if given:
            raise ArgumentError("arguments are for a class; a module is built already")
        original = target
        return Target(type(target).__name__, lambda: copy.deepcopy(original))
    if not (isinstance(target, type) and issubclass(target, nn.Module)):
        raise ArgumentError(
            f"target must be 'file.py:Class', a torch.nn.Module or its class, got {target!r}"
        )
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    accepted = {n: p for n, p in inspect.signature(target).parameters.items() if p.kind in named}
    for name in given:
        if name not in accepted:
            raise ArgumentError(
                f"{target.__name__} has no argument {name!r}; {suggest(name, accepted)}"
            )
    free = tuple(p for n, p in accepted.items() if n not in given)
    asks = {p.name.lower() for p in free if p.default is p.empty}
    size = (8, 6) if asks & HEIGHT and asks & WIDTH else None
    return Target(target.__name__, target, given, free, size)


def _imported(text: str) -> object:
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not file or path.suffix != ".py":
        raise ArgumentError(f"write the target as path/to/file.py:Class, got {text!r}")
    if not path.is_file():
        raise DataNotFoundError(f"there is no file {path}")
    module_name = f"convattn_audited_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles in the file look for it
    sys.path.insert(0, str(path.resolve().parent))  # its neighbours can be imported, as when run
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ArgumentError(f"{path} cannot be imported: {error_text(error)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    classes = [n for n, v in vars(module).items() if isinstance(v, type)]
    if name not in classes:
        raise ArgumentError(f"{path} has no class {name!r}; {suggest(name, classes)}")
    found: object = getattr(module, name)
    return found
