"""`plan` and `insert`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from convattn.blocks import block_class
from convattn.core.errors import ArgumentError, UnknownNameError
from convattn.core.names import suggest
from convattn.insertion.flow import Flow
from convattn.insertion.places import At, Place, find_places
from convattn.insertion.planning import Args, Plan, Work, planned, prepare
from convattn.insertion.probe import Probe, probe
from convattn.insertion.rules import find_positions, usable
from convattn.insertion.slots import slot_positions
from convattn.insertion.surgery import attach, checked_module

__all__ = ["apply_work", "check_host", "insert", "kept_random_state", "plan", "positions"]

Host = TypeVar("Host", bound=nn.Module)


def plan(
    host: nn.Module,
    block: str,
    at: At | None = None,
    *,
    init: str = "identity",
    stages: Iterable[int] | None = None,
    where: Callable[[Place], bool] | None = None,
    args: Args | None = None,
    input_size: Sequence[int] | None = None,
    inputs: Any = None,
    **arguments: Any,
) -> Plan:
    """Say what `insert` with the same arguments would do, and change nothing.

    Args:
        host: any network.
        block: a name from `list_blocks`.
        at: a position such as "after_depthwise", "before_add", "after_add", "stage_end",
            "after_merge" or "after_conv2" (`convattn.insertion.positions(host)` lists the host's);
            a module path, also with wildcards ("layer?.*.bn3") or as a regular expression
            ("re:layer[34].*"); a predicate (path, module) -> bool; or several of them. None takes
            the first of the block's own positions that the host has.
        init: "identity": the host computes at first what it computed before; "authors".
        stages: only these; a stage ends before each reduction of the map, -1 is the last.
        where: only places for which it returns True; a `Place` has path, channels, sizes, stage.
        args: the blocks' arguments by place, as a function of it, or by stage, as a list.
        input_size: of the host's image, (N, C, H, W); None tries 224 and other usual sizes.
        inputs: instead, the tuple of arguments that the host takes, or a dict of them by name.
        **arguments: of the block, the same for all.

    Raises:
        UnknownNameError: no such block, or nothing there is called `at`.
        ArgumentError: an argument, a filter or a place that cannot be.
        InputError: the host fails on the input, or a place has no feature map.

    Example:
        >>> from convattn import create_model, plan
        >>> len(plan(create_model("mobilenet_v2"), "ca", at="after_depthwise"))
        16
    """
    with kept_random_state(always=True):
        return planned(
            host,
            *_prepared(host, block, at, init, stages, where, args, input_size, inputs, arguments),
        )


def insert(
    host: Host,
    block: str,
    at: At | None = None,
    *,
    init: str = "identity",
    stages: Iterable[int] | None = None,
    where: Callable[[Place], bool] | None = None,
    args: Args | None = None,
    input_size: Sequence[int] | None = None,
    inputs: Any = None,
    **arguments: Any,
) -> Host:
    """Put a new block at every place that `at` means; see `plan` for the arguments.

    The host's modules, weights, buffers, state-dict keys, modes and flags stay as they are; each
    block is a new child called "attention" of the module behind which it goes. An error leaves
    the host and the random state as they were.

    Returns:
        The host itself.

    Raises:
        UnknownNameError: no such block, or nothing there is called `at`.
        ArgumentError: an argument, a filter or a place that cannot be.
        InputError: the host fails on the input, or a place has no feature map.

    Example:
        >>> from convattn import create_model, find, insert
        >>> model = insert(create_model("mobilenet_v2"), "eca", at="stage_end", kernel_size=3)
        >>> find(model)[0].path
        'blocks.0.attention'
    """
    with kept_random_state():
        _, work = _prepared(
            host, block, at, init, stages, where, args, input_size, inputs, arguments
        )
        apply_work(host, work)
    return host


def _prepared(
    host: nn.Module, block: str, at: At | None, init: str, stages: Any, where: Any,
    args: Args | None, input_size: Any, inputs: Any, arguments: dict[str, Any],
) -> tuple[Probe, Work]:  # fmt: skip
    check_host(host)
    kind = block_class(block)
    if kind.family == "conv":
        raise ArgumentError(
            f"{block} stands in for a convolution and cannot be inserted behind a module; "
            f"use replace(host, old=<paths of convolutions>, new={block!r})"
        )
    probed = probe(host, input_size, inputs)
    if at is None:
        at = _authors_position(host, probed, block, kind.info.positions)
    places = find_places(host, probed.twin, probed.trace, at, stages, where)
    return probed, prepare(host, probed, places, block, init, args, arguments)


def _authors_position(host: nn.Module, probed: Probe, block: str, wanted: tuple[str, ...]) -> str:
    have = _counts(host, probed)
    for position in wanted:
        if position in have:
            return position
    raise UnknownNameError(
        f"{block} goes to {', '.join(wanted) or 'no position of its own'}, which "
        f"{type(host).__name__} does not have; choose with at=... {suggest('', have)}"
    )


def apply_work(host: nn.Module, work: Work) -> None:
    """Attach prepared blocks; nothing here can fail half-way but for a lack of memory."""
    for place, block, mark in work:
        attach(host, place.path, block, mark)


def check_host(host: object) -> None:
    """Raise `ArgumentError` where blocks would be ignored or never trained."""
    host = checked_module(host)
    kind = type(host).__name__
    if isinstance(host, torch.jit.ScriptModule):
        raise ArgumentError(
            f"{kind} is scripted, and what is scripted takes no new modules; change the Python "
            "model, then trace it (torch.jit.trace) or export it (torch.export)"
        )
    compiled = getattr(host, "_compiled_call_impl", None)
    if kind == "OptimizedModule" or compiled is not None:
        raise ArgumentError(
            "the host is compiled, and what is compiled would not see new blocks; change the "
            "plain model, then torch.compile it"
        )
    for path, module in host.named_modules():
        kind = type(module).__name__
        if kind in ("DistributedDataParallel", "FullyShardedDataParallel"):
            raise ArgumentError(
                f"{path or 'the host'} is {kind}, which has counted its parameters already and "
                "would not reduce the gradients of new blocks; change the plain model, then wrap it"
            )


@contextmanager
def kept_random_state(*, always: bool = False) -> Iterator[None]:
    """Restore the CPU's random state after an error, or always."""
    state = torch.get_rng_state()
    try:
        yield
    except BaseException:
        torch.set_rng_state(state)
        raise
    if always:
        torch.set_rng_state(state)


def positions(
    host: nn.Module, *, input_size: Sequence[int] | None = None, inputs: Any = None
) -> dict[str, int]:
    """The named positions of a host, with how many places each has."""
    check_host(host)
    return _counts(host, probe(host, input_size, inputs))


def _counts(host: nn.Module, probed: Probe) -> dict[str, int]:
    counts = usable(find_positions(Flow(probed.trace)))
    return counts | {name: len(paths) for name, paths in slot_positions(host).items()}
