"""What an insertion would do, tried on a stand-in: paths, channels, maps, parameters, MACs."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from convattn.blocks import block_class, create_block
from convattn.blocks._base import Block
from convattn.core.checks import check_choice
from convattn.core.errors import ArgumentError, ConvattnError
from convattn.insertion.places import Place
from convattn.insertion.probe import Probe
from convattn.insertion.surgery import Mark, attach

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Args", "Plan", "PlanRow", "Work", "own_arguments", "planned", "prepare"]

Work = list[tuple[Place, Block, Mark]]
Args = Callable[[Place], dict[str, Any]] | Sequence[dict[str, Any]]


@dataclass(frozen=True)
class PlanRow:
    """One block of a plan.

    Attributes:
        place: where it goes.
        arguments: it is built with.
        parameters: it adds.
        macs: multiply-accumulates that it adds for one image, over all calls of its module.
    """

    place: Place
    arguments: dict[str, Any]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Plan:
    """A table of blocks to come; `print(plan)` shows it.

    Attributes:
        host: class of the host.
        block: name of the block.
        input_size: that MACs are for; () where the host was given arguments of its own.
        rows: one per block, in the order of the network.
    """

    host: str
    block: str
    input_size: tuple[int, ...]
    rows: tuple[PlanRow, ...] = field(repr=False)

    @property
    def parameters(self) -> int:
        """Added in all."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates added in all, for one image, as `convattn.cost` counts them."""
        return sum(row.macs for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[PlanRow]:
        return iter(self.rows)

    def as_table(self) -> Table:
        """The table for `rich`."""
        from rich.table import Table

        size = "x".join(map(str, self.input_size)) or "the given inputs"
        table = Table(
            title=f"{len(self)} x {self.block} into {self.host}, for {size}", show_footer=True
        )
        table.add_column("behind", "total", overflow="fold")
        table.add_column("module", overflow="fold")
        table.add_column("stage", justify="right")
        table.add_column("channels", justify="right")
        table.add_column("map", justify="right", no_wrap=True)
        table.add_column("parameters", f"{self.parameters:,}", justify="right", no_wrap=True)
        table.add_column("MACs", f"{self.macs:,}", justify="right", no_wrap=True)
        for row in self.rows:
            place = row.place
            sizes = ", ".join(dict.fromkeys("x".join(map(str, size)) for size in place.sizes))
            calls = f" ({len(place.sizes)} calls)" if len(place.sizes) > 1 else ""
            table.add_row(
                place.path or "(model)", place.module, str(place.stage), str(place.channels),
                sizes + calls, f"{row.parameters:,}", f"{row.macs:,}",
            )  # fmt: skip
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=110, color_system=None).print(self.as_table())
        return text.getvalue()


def prepare(
    host: nn.Module,
    probed: Probe,
    places: list[Place],
    block: str,
    init: str,
    args: Args | None,
    arguments: dict[str, Any],
) -> Work:
    """Build the blocks and try them on the stand-in; the host stays as it is.

    Args:
        host: named in errors; lends blocks its modes.
        probed: its stand-in, to which the blocks' stand-ins are attached.
        places: for the blocks.
        block: name.
        init: "authors" or "identity".
        args: arguments by place, or by stage.
        arguments: for all of them.

    Raises:
        ArgumentError: a block refuses its place, or the host refuses the block.
    """
    check_choice("insertion", "init", init, ("identity", "authors"))
    work = []
    for place in places:
        own = {**_axes(block, place), **arguments, **own_arguments(place, args, places)}
        if "channels" in own:
            raise ArgumentError(
                f"channels={own['channels']!r}: a block takes the channels of its map, here "
                f"{place.channels} behind {place.path or 'the model'}; leave the argument out"
            )
        try:
            with torch.device("cpu"):
                new = create_block(block, place.channels, **own)
            if init == "identity":
                new.start_as_identity()
        except ConvattnError as error:
            hint = ' init="authors" starts it as its authors do' if "identity" in str(error) else ""
            shown = f"{place.path or '(the model itself)'} ({place.channels} channels)"
            raise ArgumentError(f"at {shown}: {str(error).rstrip('.')}.{hint}") from error
        new.to(device=place.device, dtype=place.dtype)
        new.train(host.get_submodule(place.path).training)
        work.append((place, new, Mark(place.way, block, own, init, place.position)))
    _rehearse(host, probed, work)
    return work


def _axes(block: str, place: Place) -> dict[str, int]:
    """What a block is told where its map has not two axes."""
    ndim = len(place.sizes[0])
    if ndim == 2:
        return {}
    only = block_class(block).info.two_axes
    if only:
        axes = "one axis" if ndim == 1 else "three axes"
        raise ArgumentError(
            f"at {place.path or '(the model itself)'} maps have {axes} behind the channels, and "
            f"{block} takes two. {only}"
        )
    return {"ndim": ndim}


def planned(host: nn.Module, probed: Probe, work: Work) -> Plan:
    """The plan of prepared work; blocks that are alike are counted once."""
    counted: dict[str, int] = {}
    rows = []
    for place, block, mark in work:
        alike = f"{place.channels} {place.sizes} {mark.arguments}"
        if alike not in counted:
            counted[alike] = _macs(probed, block, place)
        parameters = sum(p.numel() for p in block.parameters())
        rows.append(PlanRow(place, mark.arguments, parameters, counted[alike]))
    return Plan(type(host).__name__, work[0][2].block, probed.trace.size, tuple(rows))


def own_arguments(place: Place, args: Args | None, places: list[Place]) -> dict[str, Any]:
    """The arguments that `args` gives to one place."""
    if args is None:
        return {}
    if isinstance(args, dict):
        raise ArgumentError(
            f"args={args!r}: arguments that are the same for all blocks go to the call itself, as "
            f"{', '.join(f'{k}={v!r}' for k, v in args.items()) or 'name=value'}; args takes a "
            "function of the place, or a list with a dict for each stage"
        )
    if not callable(args) and not isinstance(args, (list, tuple)):
        raise ArgumentError(
            "args must be a function of the place, or a list with a dict for each stage; "
            f"got {args!r}"
        )
    if not callable(args):
        stages = max(p.stage for p in places)
        if len(args) < stages:
            raise ArgumentError(
                f"args has {len(args)} entries, one per stage, but places lie in stages up to "
                f"{stages}; or give args a function of the place"
            )
    own = args(place) if callable(args) else args[place.stage - 1]
    if not isinstance(own, dict):
        raise ArgumentError(f"args gave {own!r} for {place.path}, expected a dict of arguments")
    return own


def _macs(probed: Probe, block: Block, place: Place) -> int:
    """As `convattn.cost` counts: products alone, for one image."""
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten
    # matrix-vector products, which torch's counter leaves out: ECA's kernel is one
    extra = {aten.mv: _mv_flops, aten.addmv: _addmv_flops, aten.dot: _mv_flops}
    twin = probed.copy(block)
    total = 0
    for size in place.sizes:
        counter = FlopCounterMode(display=False, custom_mapping=extra)
        with probed.fake, torch.no_grad():
            x = torch.empty((1, place.channels, *size), dtype=place.dtype, device=place.device)
            with counter:
                twin(x)
        total += counter.get_total_flops() // 2
    return total


def _mv_flops(a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(a)


def _addmv_flops(_: Any, a: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(a)


def _rehearse(host: nn.Module, probed: Probe, work: Work) -> None:
    """Attach stand-ins of the blocks and run: hosts may do unusual things with their children."""
    twins = []
    for place, block, mark in work:
        twin: Any = probed.copy(block)
        attach(probed.twin, place.path, twin, Mark(**vars(mark)))
        twins.append(twin)
    try:
        trace = probed.run_again()
    except Exception as error:
        raise ArgumentError(
            f"{type(host).__name__} does not run with blocks at {work[0][0].path} and "
            f"{len(work) - 1} more places: {error}"
        ) from error
    for (place, _, _), twin in zip(work, twins, strict=True):
        calls = len(trace.calls_of(twin))
        if calls != len(place.sizes):
            raise ArgumentError(
                f"{type(host).__name__} calls {place.path} {len(place.sizes)} times but a block "
                f"there {calls} times: it may walk over its children. Choose the last of them"
            )
    before, after = probed.trace.calls[0].returned, trace.calls[0].returned
    if before != after:
        raise ArgumentError(f"{type(host).__name__} returned {before}, with blocks {after}")
