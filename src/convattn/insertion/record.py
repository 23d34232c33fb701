"""What was inserted: `find` it, `remove` it, keep it as plain data and `rebuild` from that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from convattn.blocks import create_block
from convattn.blocks._base import Block
from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError
from convattn.insertion.inserting import check_host, kept_random_state
from convattn.insertion.surgery import (
    INITS,
    Mark,
    attach,
    checked_module,
    detach,
    is_live,
    mark_of,
    way_of,
)

__all__ = ["Inserted", "find", "insertions", "rebuild", "remove"]

Host = TypeVar("Host", bound=nn.Module)


@dataclass(frozen=True)
class Inserted:
    """A block in a model.

    Attributes:
        path: of the block.
        block: its name.
        channels: C of its map, None for any.
        inserted: whether `remove` can take it out; blocks that the model was built with stay.
        live: False where something rebuilt the module round it, which no longer applies it.
        gate_scale: what its gates are multiplied by: 2 from a start as the identity until `fold`.
    """

    path: str
    block: str
    channels: int | None
    inserted: bool
    live: bool
    gate_scale: float


def find(model: nn.Module) -> list[Inserted]:
    """All blocks of a model, in the order of its modules."""
    return [
        Inserted(
            path,
            type(module).__module__.rpartition(".")[2],
            module._channels,
            mark_of(module) is not None,
            is_live(model, path),
            module.gate_scale,
        )
        for path, module in checked_module(model).named_modules()
        if isinstance(module, Block)
    ]


def remove(model: Host) -> Host:
    """Take out every block that was inserted; what it replaced comes back.

    The model is then as before the insertion, but for what training did to its weights.

    Returns:
        The model itself.

    Raises:
        ArgumentError: it has no inserted block, or was folded.
    """
    check_host(model)
    if any(record["init"] == "folded" for record in insertions(model)):
        raise ArgumentError(
            f"{type(model).__name__} was folded: its own weights hold factors of the blocks. "
            "Remove before folding, or fold a copy: fold(copy.deepcopy(model))"
        )
    paths = [found.path for found in find(model) if found.inserted]
    if not paths:
        raise ArgumentError(
            f"{type(model).__name__} holds no block that was inserted; find(model) lists "
            f"{len(find(model))} others"
        )
    for path in reversed(paths):
        detach(model, path)
    return model


def insertions(model: nn.Module) -> list[dict[str, Any]]:
    """What was inserted, as plain data for JSON: keep it beside the state dict, for `rebuild`."""
    records = []
    for path, module in checked_module(model).named_modules():
        mark = mark_of(module)
        if mark is None:
            continue
        parent, _, _ = path.rpartition(".")
        target = {"swap": path, "follow": f"{parent}.{mark.behind}".lstrip(".")}
        records.append(
            {
                "path": target.get(mark.way, parent),
                "way": mark.way,
                "block": mark.block,
                "channels": getattr(module, "_channels", None),
                "arguments": mark.arguments,
                "init": mark.init,
                "position": mark.position,
            }
        )
    return records


def rebuild(host: Host, records: Iterable[dict[str, Any]]) -> Host:
    """Put blocks where a record from `insertions` says; then a state dict of that model fits.

    An error leaves the host as it was.

    Args:
        host: as it was before the insertion.
        records: of the inserted model; lists that JSON made of tuples are tuples again.

    Raises:
        ArgumentError: the host has no module at a recorded path, or a record is incomplete.
    """
    check_host(host)
    if not isinstance(records, Iterable) or isinstance(records, (str, dict)):
        raise ArgumentError(
            "rebuild takes the list of records that insertions(model) returned, got "
            f"{type(records).__name__}"
        )
    done: list[str] = []
    with kept_random_state():
        try:
            for record in records:
                done.append(_put(host, record))
        except BaseException:
            for path in reversed(done):
                detach(host, path)
            raise
    return host


def _put(host: nn.Module, record: dict[str, Any]) -> str:
    """Attach the block of one record; it may stand at a block of an earlier one.

    Returns:
        The block's path.
    """
    try:
        module = host.get_submodule(record["path"])
        arguments = {
            k: tuple(v) if isinstance(v, list) else v for k, v in record["arguments"].items()
        }
        check_choice("a record", "way", record["way"], ("swap", way_of(host, record["path"])))
        check_choice("a record", "init", record["init"], INITS)
        block = create_block(record["block"], record["channels"], **arguments)
        mark = Mark(record["way"], record["block"], arguments, record["init"], record["position"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{type(host).__name__} does not fit the record {record!r}: {error}"
        ) from error
    if record["init"] == "identity":
        block.start_as_identity()
    like = next((p for p in host.parameters() if p.is_floating_point()), None)
    if like is not None:
        block.to(like.device, like.dtype)
    return attach(host, record["path"], block.train(module.training), mark)
