"""Where decoders join maps: an enlarged one with one that was that large before.

U-Net concatenates them, a feature pyramid adds them, DeepLab's head concatenates branches of which
one was pooled. What such a sum or concatenation returns goes into a convolution, which mixes both.
"""

from __future__ import annotations

from convattn.insertion.flow import Flow
from convattn.insertion.trace import Op

__all__ = ["merging_convolutions"]

_ENLARGES = ("convolution", "pixel_shuffle", "upsample")  # a convolution that is transposed


def merging_convolutions(flow: Flow) -> list[int]:
    """The operators that are the first convolutions of what was joined, in order."""
    joined = [op.outputs[0] for op in flow.trace.ops if _merges(flow, op)]
    return sorted({i for value in joined if (i := _convolution_of(flow, value)) is not None})


def _merges(flow: Flow, op: Op) -> bool:
    """Whether an operator joins an enlarged map with one that is not."""
    if op.name not in ("cat", "add") or len(set(op.inputs)) < 2:
        return False
    if not all(flow.is_map(v) and flow.area(v) == flow.area(op.inputs[0]) for v in op.inputs):
        return False
    return len({_is_enlarged(flow, v) for v in op.inputs}) == 2


def _is_enlarged(flow: Flow, value: int) -> bool:
    """Whether a map was smaller before, with no other map joined to it since."""
    while (op := flow.made_by(value)) is not None:
        maps = [v for v in op.inputs if flow.is_map(v)]
        same = [v for v in maps if flow.area(v) == flow.area(value)]
        if len(same) != 1:
            larger = bool(maps) and all(flow.area(v) < flow.area(value) for v in maps)
            return larger and op.name.startswith(_ENLARGES)
        value = same[0]
    return False


def _convolution_of(flow: Flow, value: int) -> int | None:
    """The first convolution behind norms and activations; None where another merge comes first."""
    open_values = {value}
    for i in range(flow.trace.maker[value] + 1, len(flow.trace.ops)):
        op = flow.trace.ops[i]
        if not open_values & set(op.inputs) or not op.outputs or not flow.is_map(op.outputs[0]):
            continue
        if op.name == "convolution" and flow.area(op.outputs[0]) <= flow.area(value):
            return i
        if _merges(flow, op):
            return None
        if flow.trace.shapes[op.outputs[0]] == flow.trace.shapes[value]:
            open_values.add(op.outputs[0])
    return None
