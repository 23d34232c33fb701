"""What a source is: how its authors call and store what we build."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from torch import Tensor, nn

__all__ = ["Inside", "Source", "Unused", "conv_shape"]


def _same(key: str, tensor: Tensor) -> Tensor:
    return tensor


def _as_ours(keys: list[str]) -> list[str]:
    return keys


@dataclass(frozen=True)
class Inside:
    r"""Blocks inside a network, stored there as their own source says.

    Attributes:
        path: regular expression of their paths in our network, such as r"(layer.*)\.before_add".
        name: replacement, their path in the authors' network, such as r"\1.eca", or a function of
            the match.
        block: source of one such block.
    """

    path: str
    name: str | Callable[[re.Match[str]], str]
    block: Source

    def theirs(self, key: str) -> tuple[str, str] | None:
        """The authors' path of the block and our key in it, for a key of such a block."""
        match = re.match(rf"(?:{self.path})\.", key)
        if match is None:
            return None
        name = match.expand(self.name) if isinstance(self.name, str) else self.name(match)
        return name, key[match.end() :]


@dataclass(frozen=True)
class Source:
    """One class or function of an authors' repository.

    Attributes:
        names: "owner/repo:file:class", with all names it goes by.
        build: takes the authors' constructor arguments, returns our module.
        keys: (pattern, replacement) pairs from our state-dict keys to theirs; the first that
            matches at the start of the key is used, its replacement may be a function
            of the match; a key that none matches keeps its name.
        shape: turns our tensor of a key into the authors' shape.
        blocks: attention blocks inside a network; they come before `keys` and `shape`.
        order: puts the authors' keys into their order, given them in ours.
        choose: for a class whose arguments change the names of its layers: the source that fits
            a module with these keys of ours.
        adapt: prepares a module for a state dict where the authors edit their file instead of
            passing an argument.
    """

    names: tuple[str, ...]
    build: Callable[..., nn.Module]
    keys: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = ()
    shape: Callable[[str, Tensor], Tensor] = _same
    blocks: tuple[Inside, ...] = ()
    order: Callable[[list[str]], list[str]] = _as_ours
    choose: Callable[[Collection[str]], Source] | None = field(default=None)
    adapt: Callable[[nn.Module, dict[str, Tensor]], None] | None = field(default=None)

    def fitting(self, keys: Collection[str]) -> Source:
        """The names and shapes for a module with these keys of ours."""
        return self if self.choose is None else self.choose(keys)

    def their_key(self, key: str) -> str:
        """The authors' name of our key."""
        for inside in self.blocks:
            if found := inside.theirs(key):
                return f"{found[0]}.{inside.block.their_key(found[1])}"
        for pattern, replacement in self.keys:
            renamed, count = re.subn(rf"\A(?:{pattern})", replacement, key, count=1)
            if count:
                return renamed
        return key

    def their_tensor(self, key: str, tensor: Tensor) -> Tensor:
        """Our tensor in the authors' shape."""
        for inside in self.blocks:
            if found := inside.theirs(key):
                return inside.block.their_tensor(found[1], tensor)
        return self.shape(key, tensor)


def conv_shape(key: str, tensor: Tensor) -> Tensor:
    """Our linear weight (M, C) as the authors' 1x1 convolution (M, C, 1, 1)."""
    return tensor[:, :, None, None] if key.endswith("weight") and tensor.dim() == 2 else tensor


class Unused(nn.Module):
    """What an authors' layer holds, where their code creates it and never calls it.

    As buffers its tensors stay in state dicts, there and back, but there is nothing to train.

    Args:
        layer: freshly built.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, tensor in layer.state_dict().items():
            self.register_buffer(name, tensor)
