"""Slots: named empty places in our own networks, each taking one block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from convattn.blocks import block_class, create_block
from convattn.blocks._base import Block
from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.core.names import suggest

__all__ = [
    "ConvSlot",
    "Slot",
    "Where",
    "fill_slots",
    "filled_by",
    "number_slots",
    "slot_positions",
]


class Slot(nn.Identity):
    """An empty place for a block; has no parameter and no state-dict key.

    Args:
        position: its name, such as "after_depthwise".
        channels: C of the feature map (N, C, H, W) that passes.
    """

    stage = 0  # from 1, and the block within it from 0, of how many: see `number_slots`
    block = 0
    blocks = 1

    def __init__(self, position: str, channels: int) -> None:
        super().__init__()
        self.position = position
        self.channels = channels

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.position}, channels={self.channels}"


class ConvSlot(nn.Conv2d):
    """A convolution that a block of the family "conv" may replace, at the position "conv3x3"."""

    position = "conv3x3"
    stage = 0
    block = 0
    blocks = 1


@dataclass(frozen=True)
class Where:
    """A choice among the slots of a network.

    Attributes:
        at: name of the position.
        stages: numbers of the stages, from 1; None for all.
        blocks: of each stage "all", the "first", the "last", or every "second" from the second on.
    """

    at: str
    stages: tuple[int, ...] | None = None
    blocks: str = "all"

    def chooses(self, slot: Slot | ConvSlot) -> bool:
        """Whether a slot of this position is meant."""
        of_block = {
            "all": True,
            "first": slot.block == 0,
            "last": slot.block == slot.blocks - 1,
            "second": slot.block % 2 == 1,
        }
        return (self.stages is None or slot.stage in self.stages) and of_block[self.blocks]


def number_slots(stages: Iterable[Sequence[nn.Module]], first: int = 1) -> None:
    """Tell the slots of a network in which stage and block they lie.

    Args:
        stages: the blocks of each stage.
        first: number of the first stage.
    """
    for stage, blocks in enumerate(stages, first):
        for index, block in enumerate(blocks):
            for slot in block.modules():
                if isinstance(slot, (Slot, ConvSlot)):
                    slot.stage, slot.block, slot.blocks = stage, index, len(blocks)


def slot_positions(model: nn.Module) -> dict[str, list[str]]:
    """Module paths of the empty slots, by position, in the order of the network."""
    found: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, Slot):
            found.setdefault(module.position, []).append(path)
    return found


def filled_by(model: nn.Module, attention: str) -> set[str]:
    """Positions of the empty slots that a block can fill."""
    slots = _slots(model, conv=block_class(attention).family == "conv")
    return {slot.position for slot in slots.values()}


def fill_slots(
    model: nn.Module,
    attention: str,
    at: str | Where,
    *,
    init: str = "authors",
    per_stage: Mapping[str, Sequence[Any]] | None = None,
    **arguments: Any,
) -> list[str]:
    """Put a new block into every empty slot at a position; the model is changed.

    Args:
        model: a network with slots.
        attention: name of the block.
        at: name of the position, or a narrower choice.
        init: "authors", or "identity": the untrained blocks return their input.
        per_stage: arguments for the block that differ by stage, one value for each stage.
        **arguments: for the block, the same in all slots.

    Returns:
        Paths of the new blocks.

    Raises:
        UnknownNameError: the network has no empty slot at this position, or no such block exists.
        ArgumentError: the block refuses an argument, or the choice leaves no slot.
    """
    check_choice("fill_slots", "init", init, ("authors", "identity"))
    where = Where(at) if isinstance(at, str) else at
    slots = _slots(model, conv=block_class(attention).family == "conv")
    positions = {slot.position for slot in slots.values()}
    if where.at not in positions:
        raise UnknownNameError(
            f"{type(model).__name__} has no position {where.at!r}; {suggest(where.at, positions)}"
        )
    count = max(slot.stage for slot in slots.values())
    chosen = {p: s for p, s in slots.items() if s.position == where.at and where.chooses(s)}
    if not chosen:
        raise ArgumentError(
            f"{where} leaves no slot of {type(model).__name__}, which has stages 1 to {count}"
        )
    for name, values in (per_stage or {}).items():
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
            raise ArgumentError(
                f"{type(model).__name__} has {count} stages: {name} per stage needs {count} "
                f"values, got {values!r}"
            )
        if name in arguments:
            raise ArgumentError(f"{name} is given for all stages and per stage; keep one of them")
    blocks = {}
    for path, slot in chosen.items():
        own = {name: values[slot.stage - 1] for name, values in (per_stage or {}).items()}
        blocks[path] = _create(attention, slot, {**arguments, **own})
        if init == "identity":
            blocks[path].start_as_identity()
    # the model is changed only now, so that an error leaves it as it was
    for path, block in blocks.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, block)
    return list(blocks)


def _slots(model: nn.Module, conv: bool) -> dict[str, Slot | ConvSlot]:
    """The empty slots by path; convolutions only for blocks that can replace them."""
    kinds = (Slot, ConvSlot) if conv else (Slot,)
    return {path: m for path, m in model.named_modules() if isinstance(m, kinds)}


def _create(attention: str, slot: Slot | ConvSlot, arguments: dict[str, Any]) -> Block:
    if isinstance(slot, Slot):
        return create_block(attention, slot.channels, **arguments)
    conv = {"out_channels": slot.out_channels, "stride": slot.stride[0]}
    if slot.dilation[0] > 1:  # blocks without dilation refuse it by name
        conv["dilation"] = slot.dilation[0]
    return create_block(attention, slot.in_channels, **conv, **arguments)
