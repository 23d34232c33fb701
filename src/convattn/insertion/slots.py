"""Slots: named empty places in our own networks, each taking one block."""

from __future__ import annotations

from typing import Any

from torch import nn

from convattn.blocks import create_block
from convattn.core.checks import check_choice
from convattn.core.errors import UnknownNameError
from convattn.core.names import suggest

__all__ = ["Slot", "fill_slots", "slot_positions"]


class Slot(nn.Identity):
    """An empty place for a block; has no parameter and no state-dict key.

    Args:
        position: its name, such as "after_depthwise".
        channels: C of the feature map (N, C, H, W) that passes.
    """

    def __init__(self, position: str, channels: int) -> None:
        super().__init__()
        self.position = position
        self.channels = channels

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.position}, channels={self.channels}"


def slot_positions(model: nn.Module) -> dict[str, list[str]]:
    """Module paths of the empty slots, by position, in the order of the network."""
    found: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, Slot):
            found.setdefault(module.position, []).append(path)
    return found


def fill_slots(
    model: nn.Module, attention: str, at: str, *, init: str = "authors", **arguments: Any
) -> list[str]:
    """Put a new block into every empty slot at a position; the model is changed.

    Args:
        model: a network with slots.
        attention: name of the block.
        at: name of the position.
        init: "authors", or "identity": the untrained blocks return their input.
        **arguments: for the block.

    Returns:
        Paths of the new blocks.

    Raises:
        UnknownNameError: the network has no empty slot at this position, or no such block exists.
        ArgumentError: the block refuses an argument.
    """
    check_choice("fill_slots", "init", init, ("authors", "identity"))
    positions = slot_positions(model)
    if at not in positions:
        raise UnknownNameError(
            f"{type(model).__name__} has no position {at!r}; {suggest(at, positions)}"
        )
    paths = positions[at]
    slots = [model.get_submodule(path) for path in paths]
    blocks = [create_block(attention, slot.channels, **arguments) for slot in slots]  # type: ignore[arg-type]
    if init == "identity":
        for block in blocks:
            block.start_as_identity()
    # the model is changed only now, so that an error leaves it as it was
    for path, block in zip(paths, blocks, strict=True):
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, block)
    return paths
