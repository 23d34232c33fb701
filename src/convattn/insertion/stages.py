"""Stages: a network reduces its map step by step, and a stage is what lies between."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from torch import nn

from convattn.insertion.flow import Flow
from convattn.insertion.trace import Call

__all__ = ["stage_ends"]


def _children(flow: Flow, call: Call) -> list[Call]:
    """Calls made directly inside a call."""
    return [c for c in flow.trace.calls if c.parent == call.index and c.end >= 0]


def stage_ends(flow: Flow) -> list[Call]:
    """The last building block before each reduction of the map, in order."""
    found: list[Call] = []
    for end in _ends(flow, flow.trace.calls[0]) if flow.trace.calls else ():
        if found and _map_area(flow, found[-1]) == _map_area(flow, end):
            found.pop()  # several containers of one stage
        found.append(end)
    return [_inside(flow, end) for end in found]


def _inside(flow: Flow, call: Call) -> Call:
    """The last child of a module that may walk over its children and would meet a new one."""
    kids = _children(flow, call)
    values = [call.inputs[0] if call.inputs else None, *(kid.output for kid in kids)]
    walks = (
        bool(kids)
        and (len(kids) > 1 or any(kids[0] is block for block, _ in flow.blocks))
        and type(call.module).forward is not nn.Sequential.forward
        and [kid.module for kid in kids] == list(call.module.children())
        and all(kid.inputs == (value,) for kid, value in zip(kids, values, strict=False))
        and values[-1] == call.output
    )
    return _inside(flow, kids[-1]) if walks else call


def _ends(flow: Flow, call: Call) -> Iterator[Call]:
    run: list[Call] = []
    for child in [*_children(flow, call), None]:
        inner = child is not None and _spans(flow, child)
        area = _map_area(flow, child)
        if inner or child is None or (run and area and area != _map_area(flow, run[0])):
            yield from _end_of(flow, run)
            run = []
        if child is not None and inner:
            yield from _ends(flow, child)
        elif child is not None and area:
            run.append(child)


def _end_of(flow: Flow, run: list[Call]) -> list[Call]:
    """The last with two convolutions, the stem aside; the very last where all have one."""
    if sum(len(flow.trace.convolutions(c)) for c in run) < 2:
        return []
    several = [c for c in run if len(flow.trace.convolutions(c)) > 1]
    if not several:
        return run[-1:]
    stem = next(i for i, op in enumerate(flow.trace.ops) if op.name == "convolution")
    return [c for c in several if not c.start <= stem < c.end][-1:]


def _spans(flow: Flow, call: Call) -> bool:
    """Whether several stages lie inside a call."""
    if any(call is block for block, _ in flow.blocks):
        return False
    kids = _children(flow, call)
    if any(_spans(flow, kid) for kid in kids):
        return True
    runs = groupby((k for k in kids if _map_area(flow, k)), lambda c: _map_area(flow, c))
    weights = [sum(len(flow.trace.convolutions(c)) for c in run) for _, run in runs]
    return sum(weight > 1 for weight in weights) > 1


def _map_area(flow: Flow, call: Call | None) -> int:
    if call is None or call.output is None or not flow.is_map(call.output):
        return 0
    area = flow.area(call.output)
    return area if area > 1 else 0
