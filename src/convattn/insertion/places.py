"""From what a user says (`at`, `stages`, `where`) to the places in a host where blocks go."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from convattn.core.errors import ArgumentError, InputError, UnknownNameError
from convattn.insertion.flow import Flow
from convattn.insertion.rules import find_positions, usable
from convattn.insertion.slots import Slot, slot_positions
from convattn.insertion.stages import stage_ends
from convattn.insertion.surgery import way_of
from convattn.insertion.trace import Trace

__all__ = ["At", "Place", "find_places"]

At = str | Callable[[str, nn.Module], bool] | Sequence[str]


@dataclass(frozen=True)
class Place:
    """Where one block goes.

    Attributes:
        path: of the module behind which it goes, or which it replaces.
        position: its name, or "" where the place was found by its path.
        index: among the places that `at` means, from 0.
        stage: from 1; a stage ends before each reduction of the map.
        channels: C of the map.
        sizes: (H, W) of the map, for each call of the module; (L,) or (D, H, W) in other networks.
        dtype: of the map.
        device: of the map.
        module: type of the module at `path`.
        way: how the block is attached; see `convattn.insertion.surgery`.
    """

    path: str
    position: str
    index: int
    stage: int
    channels: int
    sizes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    device: torch.device
    module: str
    way: str


def find_places(
    host: nn.Module,
    twin: nn.Module,
    trace: Trace,
    at: At,
    stages: Iterable[int] | None = None,
    where: Callable[[Place], bool] | None = None,
) -> list[Place]:
    """The places that a request means, in the order of the network.

    Args:
        host: to attach to.
        twin: its stand-in that ran.
        trace: of that run.
        at: a position, a path with or without wildcards, "re:" and a regular expression over
            paths, a predicate (path, module) -> bool, or several strings.
        stages: keep only places in these stages; negative numbers count from the last.
        where: keep only places for which it returns True.

    Raises:
        UnknownNameError: nothing of this name is there; the text lists what is.
        ArgumentError: a filter leaves nothing, or a place cannot take a block.
        InputError: what passes there is no feature map (N, C, H, W).
    """
    flow = Flow(trace)
    paths: dict[str, str] = {}
    for one in _requests(host, at):
        for path, position in _paths(host, flow, one).items():
            paths.setdefault(path, position)
    ends = [call.end for call in stage_ends(flow)]
    places = [_place(host, twin, flow, path, name, ends) for path, name in paths.items()]
    places.sort(key=lambda p: _last_op(twin, trace, p.path))
    kept = places = [replace(p, index=i) for i, p in enumerate(places)]
    last = max(len(ends), 1)
    if stages is not None:
        wanted = _stages(stages, last)
        kept = [p for p in places if p.stage in wanted]
    if where is not None:
        if not callable(where):
            raise ArgumentError(f"where must be a function of a Place, got {where!r:.80}")
        kept = [p for p in kept if where(p)]
    if not kept:
        by_stage = ", ".join(
            f"{sum(p.stage == s for p in places)} in stage {s}" for s in range(1, last + 1)
        )
        raise ArgumentError(
            f"stages={stages!r}, where={where!r} leave none of the {len(places)} places at "
            f"{at!r} in {type(host).__name__}: {by_stage}"
        )
    return kept


def _requests(host: nn.Module, at: Any) -> Sequence[Any]:
    """What `at` asks for, one by one."""
    if isinstance(at, str) or (callable(at) and not isinstance(at, (type, nn.Module))):
        return [at]
    if isinstance(at, (list, tuple, set)) and at:
        return [one for some in at for one in _requests(host, some)]
    hint = ""
    if isinstance(at, re.Pattern):
        hint = f"; a regular expression is the string {'re:' + at.pattern!r}"
    elif isinstance(at, type):
        hint = f"; for a class, lambda path, module: isinstance(module, {at.__name__})"
    elif isinstance(at, nn.Module):
        path = next((p for p, m in host.named_modules() if m is at), None)
        hint = f"; that module's path is {path!r}" if path else ""
    raise ArgumentError(
        "at must be a position, a path, a predicate (path, module) -> bool, or a list of these; "
        f"got {at!r:.80}{hint}"
    )


def _stages(stages: Any, last: int) -> set[int]:
    if not isinstance(stages, Iterable):
        stages = [stages]
    wanted = set(stages)
    wrong = [s for s in wanted if not isinstance(s, int) or not 1 <= abs(s) <= last]
    if wrong:
        raise ArgumentError(
            f"stages: {wrong[0]!r} is none; the network has stages 1 to {last} (-1 the last)"
        )
    return {s if s > 0 else last + 1 + s for s in wanted}


def _paths(host: nn.Module, flow: Flow, at: At) -> dict[str, str]:
    """Path -> position; the host's own slots come before rules of the same name."""
    if isinstance(at, str) and at in (slots := slot_positions(host)):
        return dict.fromkeys(slots[at], at)
    positions = find_positions(flow)
    if isinstance(at, str) and at in positions:
        calls = positions[at]
        found = {c.path: at for c in calls if c is not None and c.path is not None}
        if len(found) < len(calls):
            raise ArgumentError(
                f"{at!r} has {len(calls)} places in {type(host).__name__}, but in "
                f"{len(calls) - len(found)} of them no module of its own outputs the map, so "
                "nothing can be attached. Name modules by a path instead"
                f"{_nearest_paths(host, '')}"
            )
        return found
    modules = dict(host.named_modules(remove_duplicate=False))
    if callable(at):
        matches = [path for path, module in modules.items() if at(path, module)]
        shown = f"the predicate {getattr(at, '__name__', at)!r}"
    elif not isinstance(at, str) or not at:
        raise ArgumentError(f"at must be a position, a path or a predicate, got {at!r}")
    elif at.startswith("re:"):
        try:
            pattern = re.compile(at[3:])
        except re.error as error:
            raise ArgumentError(f"at={at!r} is no regular expression: {error}") from error
        matches = [path for path in modules if pattern.fullmatch(path)]
        shown = f"at={at!r}"
    else:
        matches = [path for path in modules if path == at or fnmatch.fnmatchcase(path, at)]
        shown = f"at={at!r}"
    unique: dict[int, str] = {}
    for path in matches:
        unique.setdefault(id(modules[path]), path)
    if not unique:
        counts = usable(positions)
        counts |= {name: len(paths) for name, paths in slot_positions(host).items()}
        known = ", ".join(f"{name} ({n})" for name, n in counts.items()) or "none"
        wanted = at if isinstance(at, str) else ""
        near = difflib.get_close_matches(wanted, counts, n=1, cutoff=0.6)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise UnknownNameError(
            f"{shown} matches nothing in {type(host).__name__};{hint} "
            f"positions there: {known}{_nearest_paths(host, wanted)}"
        )
    return dict.fromkeys(unique.values(), "")


def _nearest_paths(host: nn.Module, wanted: str) -> str:
    paths = [path for path, _ in host.named_modules() if path]
    near = difflib.get_close_matches(wanted, paths, n=4, cutoff=0.5) or paths[:4]
    return f"; modules such as {', '.join(near)}" if near else "; it has no modules inside"


def _place(
    host: nn.Module, twin: nn.Module, flow: Flow, path: str, position: str, ends: list[int]
) -> Place:
    """The place behind one module, or in a slot.

    Raises:
        ArgumentError: the module is not called, or cannot take a block.
        InputError: its output is no feature map, or differs in channels between calls.
    """
    trace, module = flow.trace, host.get_submodule(path)
    form = ("(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)")[flow.ndim - 1]
    shown = f"{path or '(the model itself)'} ({type(module).__name__})"
    calls = trace.calls_of(twin.get_submodule(path))
    if not calls:
        reason = f"; the run stopped early: {trace.stopped}" if trace.stopped else ""
        raise ArgumentError(f"{shown} is not called when {type(host).__name__} runs{reason}")
    for call in calls:
        value = call.output
        if value is None or not flow.is_map(value) or not trace.options[value][0].is_floating_point:
            raise InputError(
                f"{shown} returns {call.returned}, a block needs a feature map {form}. "
                "Choose another place, or leave this one out with where=..."
            )
        if flow.channels_last(value):
            raise InputError(
                f"{shown} returns {call.returned} with the channels last, a block needs {form}. "
                "Choose a module behind which they come second"
            )
    values = [c.output for c in calls if c.output is not None]
    shapes = [trace.shapes[v] for v in values]
    if len({shape[1] for shape in shapes}) > 1:
        raise InputError(
            f"{shown} is shared: its {len(calls)} calls return {', '.join(map(str, shapes))}, and "
            "one block has one number of channels. Choose the modules round it"
        )
    way = "swap" if isinstance(module, Slot) else way_of(host, path)
    if way is None:
        raise ArgumentError(
            f"{shown} runs its children in code of its own, and nothing but such containers is "
            "round it. Choose a module inside it"
        )
    dtype, device = trace.options[values[0]]
    stage = 1 + sum(end <= calls[0].start for end in ends)
    return Place(
        path, position, 0, min(stage, max(len(ends), 1)), shapes[0][1],
        tuple(s[2:] for s in shapes), dtype, device, type(module).__name__, way,
    )  # fmt: skip


def _last_op(twin: nn.Module, trace: Trace, path: str) -> int:
    """By end, so that an inner module comes before the one round it."""
    return trace.calls_of(twin.get_submodule(path))[0].end
