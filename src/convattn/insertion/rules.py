"""Named positions, found from what a network does and not from what its modules are called.

after_expand      behind the 1x1 expansion in front of a depthwise convolution, its norm and
                  activation included
after_depthwise   behind the depthwise convolution, its norm and activation, before any SE. Where
                  the network expands maps for it, only those blocks count, as the CA authors do
before_project    in front of the 1x1 projection behind the depthwise convolution, behind any SE
before_add        end of a building block's branch, before the shortcut is added; also in blocks
                  of the same class without a shortcut, as the ECA authors do
after_add         output of those blocks, behind the last sum and the activation that follows it
stage_end         last block before each reduction of the map, in decoders before each enlargement
after_merge       in decoders, behind the convolution, norm and activation that take an enlarged map
                  joined with one from before: U-Net's concatenation, a feature pyramid's sum
after_conv1, ...  behind the first, second, ... convolution of a building block's branch, before
                  its norm, as SimAM's authors do with after_conv2
"""

from __future__ import annotations

from collections.abc import Callable

from convattn.insertion.flow import Flow
from convattn.insertion.merges import merging_convolutions
from convattn.insertion.stages import stage_ends
from convattn.insertion.surgery import way_of
from convattn.insertion.trace import Call, Op

__all__ = ["find_positions", "usable"]

Found = dict[str, list[Call | None]]  # None: no module outputs this value


def find_positions(flow: Flow) -> Found:
    """All positions that the network has, with the module calls behind which they lie.

    Positions come in the order of the table above, calls in the order of the network.
    """
    found: Found = {**_depthwise(flow), **_residual(flow)}
    found["stage_end"] = [c if _takes_a_block(flow, c) else None for c in stage_ends(flow)]
    found["after_merge"] = [
        place_of(flow, flow.after(flow.trace.ops[i].outputs[0]), _holding_one(flow, i))
        for i in merging_convolutions(flow)
    ]
    for number, calls in enumerate(_convolutions(flow), 1):
        found[f"after_conv{number}"] = calls
    return {name: _unique(calls) for name, calls in found.items() if calls}


def _unique(calls: list[Call | None]) -> list[Call | None]:
    """Without further calls of the same module."""
    first = {id(call.module) if call else -i: call for i, call in reversed([*enumerate(calls, 1)])}
    return list(reversed(first.values()))


def _takes_a_block(flow: Flow, call: Call) -> bool:
    """Whether a block can be attached, and all calls of the module return as many channels.

    One activation may serve many maps.
    """
    if call.path is None or way_of(flow.trace.calls[0].module, call.path) is None:
        return False
    outputs = [c.output for c in flow.trace.calls_of(call.module)]
    return len({flow.trace.shapes[v][1:2] for v in outputs if v is not None}) == 1


def usable(found: Found) -> dict[str, int]:
    """Number of places of the positions at each of which a module of its own outputs the map."""
    return {name: len(calls) for name, calls in found.items() if None not in calls}


def _depthwise(flow: Flow) -> Found:
    ops = flow.trace.ops
    projections: dict[int, int] = {}  # depthwise convolution -> projection
    for i, op in enumerate(ops):
        if op.name == "convolution" and flow.is_1x1(op) and op.groups == 1:
            origin = flow.origin(op.inputs[0])
            if origin is not None and _is_depthwise(ops[origin]):
                projections.setdefault(origin, i)
    expansions = {}
    for i, op in enumerate(ops):
        origin = flow.origin(op.inputs[0]) if _is_depthwise(op) else None
        if origin is None or i not in projections:
            continue
        expands, narrows = ops[origin].weight, ops[projections[i]].weight
        if flow.is_1x1(ops[origin]) and expands[0] > expands[1] and narrows[0] < narrows[1]:
            expansions[i] = origin
    all_ = [i for i, op in enumerate(ops) if _is_depthwise(op)]
    found: Found = {"after_expand": [], "after_depthwise": [], "before_project": []}
    for i in expansions or all_:
        alone = _holding_one(flow, i)
        found["after_depthwise"].append(place_of(flow, flow.after(ops[i].outputs[0]), alone))
        if i in expansions:
            keep = _holding_one(flow, expansions[i])
            found["after_expand"].append(place_of(flow, ops[i].inputs[0], keep))
            first, last = expansions[i], projections[i]
            inside = lambda c, a=first, b=last: a < c.start and c.end <= b  # noqa: E731
            found["before_project"].append(place_of(flow, ops[last].inputs[0], inside))
    return found


def _is_depthwise(op: Op) -> bool:
    single = op.name == "convolution" and op.groups > 1 and op.weight[1] == 1
    return single and max(op.weight[2:]) > 1 and not op.fixed


def _holding_one(flow: Flow, i: int) -> Callable[[Call], bool]:
    """Whether a call convolves by operator `i` alone, if at all."""
    return lambda call: flow.trace.convolutions(call) in ([], [i])


def _residual(flow: Flow) -> Found:
    sums = {(id(r.call), r.branch): r.total for r in flow.residuals}
    before: list[Call | None] = []
    after: list[Call | None] = []
    for block, branch in flow.blocks:
        strictly = lambda c, b=block: _within(c, b) and c is not b  # noqa: E731
        before.append(place_of(flow, branch, strictly) or (None if _adds(sums, block) else block))
        total = sums.get((id(block), branch))
        value = branch if total is None else flow.after(total)
        if block.output in (total, value):
            after.append(block)
        elif not any(
            owner == id(block) and block.output in (sum_, flow.after(sum_))
            for (owner, _), sum_ in sums.items()
        ):
            within = lambda c, b=block: _within(c, b)  # noqa: E731
            after.append(place_of(flow, value, within))
    return {"before_add": before, "after_add": after}


def _adds(sums: dict[tuple[int, int], int], block: Call) -> bool:
    return any(owner == id(block) for owner, _ in sums)


def _within(call: Call, outer: Call) -> bool:
    return outer.index <= call.index and outer.start <= call.start and call.end <= outer.end


def _convolutions(flow: Flow) -> list[list[Call | None]]:
    """For the first, second, ... convolution of each block: where its output is."""
    convolutions: dict[int, set[int]] = {}  # by index of the block's call; it may hold two sums
    for block, branch in flow.blocks:
        convolutions.setdefault(block.index, set()).update(flow.branch(branch, block))
    found: list[list[Call | None]] = []
    for inside in convolutions.values():
        for number, i in enumerate(sorted(inside)):
            if number == len(found):
                found.append([])
            value = flow.trace.ops[i].outputs[0]
            found[number].append(place_of(flow, value, _holding_one(flow, i)))
    return found


def place_of(flow: Flow, value: int, keep: Callable[[Call], bool]) -> Call | None:
    """The call whose module outputs `value`, to which a block can be attached.

    The outermost that `keep` accepts among those in which the value came into being; else one
    that passes it on, such as a drop path. Modules that are called several times (a shared
    activation) and containers that run their children in code of their own do not count. Where
    none is left, the value before a factor without a module, such as a layer scale, serves.

    Args:
        flow: of the network.
        value: number of a map.
        keep: whether a call may be taken.
    """
    calls = flow.trace.calls
    times: dict[int, int] = {}
    for call in calls:
        times[id(call.module)] = times.get(id(call.module), 0) + 1
    while True:
        fit = [
            c for c in calls
            if c.output == value and c.path is not None and keep(c)
            and times[id(c.module)] == 1 and way_of(calls[0].module, c.path) is not None
        ]  # fmt: skip
        maker = flow.trace.maker.get(value, -1)
        if fit:
            return next((c for c in fit if c.start <= maker < c.end), fit[0])
        op = flow.made_by(value)
        shape = flow.trace.shapes[value]
        earlier = [v for v in op.inputs if flow.trace.shapes[v] == shape] if op else []
        if op is None or op.name not in ("mul", "clone", "alias") or len(op.inputs) != 1:
            return None
        value = earlier[0]
