"""How a factor on one value travels through a network until weights take it up.

A value has the factor f where a changed network computes f times what the network computed. A
ReLU, a mean or a concatenation passes f on, a product of two maps has the product of their
factors, and a sum needs one f in all that it adds. Convolutions, linear layers and batch norms in
eval mode can have any two, f before and g behind: then the weight is multiplied by g / f and the
bias by g. Nothing else has a factor but 1: no sigmoid, no SiLU, no ReLU6, no output of the host.
"""

from __future__ import annotations

import heapq
from fractions import Fraction
from functools import cached_property
from math import prod

from convattn.insertion.flow import Flow
from convattn.insertion.trace import Op

__all__ = ["Factors", "Scaling", "Stuck"]

Factors = dict[int, Fraction]  # by number of the value; 1 where it has none

_ONE = Fraction(1)
_PASS = (
    *("abs", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "alias"),
    *("amax", "amin", "avg_pool1d", "avg_pool2d", "cat", "clone", "constant_pad_nd", "cumsum"),
    *("detach", "expand", "flip", "im2col", "leaky_relu", "max", "max_pool2d_with_indices"),
    *("maximum", "mean", "min", "minimum", "neg", "permute", "pixel_shuffle", "pixel_unshuffle"),
    *("prelu", "reflection_pad2d", "relu", "repeat", "replication_pad2d", "reshape", "roll"),
    *("select", "slice", "split", "split_with_sizes", "squeeze", "stack", "sub", "sum", "t"),
    *("to_copy", "transpose", "unbind", "unfold", "unsafe_split", "unsafe_view", "unsqueeze"),
    *("upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest1d", "upsample_nearest2d"),
    "view",
)
_PRODUCTS = ("bmm", "convolution", "mm", "mul", "mv")
_NORMS = ("native_layer_norm", "native_group_norm")


class Stuck(Exception):
    """Nothing takes the factor up; the text says where it came to a halt."""


class Scaling:
    """Factors in one network.

    Args:
        flow: of the network, in eval mode.
        parameters: names of those that may be multiplied.
        gates: factors of values whose makers will be changed so that they have them.
    """

    def __init__(self, flow: Flow, parameters: frozenset[str], gates: Factors) -> None:
        self.flow, self.trace, self.gates = flow, flow.trace, gates
        self.parameters = parameters - flow.trace.derived

    def solve(self, pins: Factors) -> tuple[dict[str, Fraction], Factors]:
        """What has to be multiplied.

        Args:
            pins: factors that values shall have besides those of gates.

        Returns:
            Factors of parameters and buffers by name, and of values.

        Raises:
            Stuck: no parameters can do it.
        """
        while True:
            factors, asked = self.sweep(pins)
            if not asked:
                break
            pins = pins | asked
        factors = {value: factor for value, factor in factors.items() if factor != 1}
        if not all(map(self._is_inner, factors)):
            raise Stuck("it reaches what the network returns")
        found: dict[str, Fraction] = {}
        for i in {i for value in factors for i in self._around(value)}:
            found |= self._amounts(self.trace.ops[i], factors)
        found = {name: amount for name, amount in found.items() if amount != 1}
        for name, amount in found.items():
            for op in self._readers[name]:
                if self._amounts(op, factors).get(name, _ONE) != amount:
                    raise Stuck(f"{name} also serves {op.name}{self._place(op)}")
        return found, factors

    def sweep(self, pins: Factors, end: int | None = None) -> tuple[Factors, Factors]:
        """Factors behind the operators, and those that values before would have to have.

        Args:
            pins: as in `solve`.
            end: number of the operator before which to stop; None for all.
        """
        pins = pins | self.gates
        factors, demands = dict(pins), Factors()
        queue = [i for value in pins for i in self._around(value)]
        heapq.heapify(queue)
        last = -1
        while queue:
            i = heapq.heappop(queue)
            if i == last or (end is not None and i >= end):
                continue
            last, op = i, self.trace.ops[i]
            made, asked = self._apply(op, factors, pins)
            for value, factor in asked.items():
                if value in pins or demands.get(value, factor) != factor:
                    raise Stuck(f"two factors meet at {op.name}{self._place(op)}")
                demands[value] = factor
            for value in op.outputs if made != 1 else ():
                if value not in pins and self.trace.options[value][0].is_floating_point:
                    factors[value] = made
                    for user in self.flow.consumers.get(value, ()):
                        heapq.heappush(queue, user)
        return factors, demands

    def _around(self, value: int) -> list[int]:
        """The operators that made a value and that use it."""
        if value not in self.trace.maker:
            raise Stuck("the input of the network would need a factor")
        return [self.trace.maker[value], *self.flow.consumers.get(value, ())]

    def _apply(self, op: Op, factors: Factors, pins: Factors) -> tuple[Fraction, Factors]:
        """The factor behind an operator, and factors that its inputs would have to have."""
        if self._parts(op):
            return _ONE, {}  # its weights take up any
        given = {v: factors.get(v, _ONE) for v in op.inputs}
        wanted = {pins[v] for v in op.outputs if v in pins and v not in self.gates}
        if len(wanted) > 1:
            raise Stuck(f"the outputs of {op.name}{self._place(op)} need several factors")
        made, asked = self._forward(op, given, wanted)
        if wanted and not asked and made not in wanted:
            return made, self._backward(op, given, *wanted)
        if op.in_place and not asked and made != given[op.inputs[0]]:
            raise Stuck(f"{op.name}{self._place(op)} is in place, where others may look")
        return made, asked

    def _forward(self, op: Op, given: Factors, wanted: set[Fraction]) -> tuple[Fraction, Factors]:
        scaled = {f for f in given.values() if f != 1}
        if not scaled:
            return _ONE, {}
        over, under = (*op.operands, None, None)[:2]
        choice = op.name == "where" and len(op.inputs) == 3 and given[op.inputs[0]] == 1
        if self._passes(op) or choice:
            joined = op.inputs[1:] if choice else op.inputs
            targets = wanted or scaled
            if len(targets) > 1:
                raise Stuck(f"two factors meet at {op.name}{self._place(op)}")
            (target,) = targets
            return target, {v: target for v in joined if given[v] != target}
        if self._multiplies(op):
            return prod((given[v] for v in op.inputs), start=_ONE), {}
        if op.name == "div":
            above, below = (given[v] if isinstance(v, int) else _ONE for v in (over, under))
            return above / below, {}
        raise Stuck(f"{op.name}{self._place(op)} does not pass it on")

    def _backward(self, op: Op, given: Factors, wanted: Fraction) -> Factors:
        """What has to come in for `wanted` to come out."""
        if self._passes(op):
            return dict.fromkeys(given, wanted)
        shape = self.trace.shapes[op.outputs[0]]
        alike = [v for v in given if self.trace.shapes[v] == shape and v not in self.gates]
        maps = [v for v in alike if op.inputs.count(v) == 1]
        if maps and (self._multiplies(op) or (op.name == "div" and maps[0] == op.operands[0])):
            now, _ = self._forward(op, {**given, maps[0]: _ONE}, set())
            return {maps[0]: wanted / now}
        raise Stuck(f"{op.name}{self._place(op)} cannot give it")

    @staticmethod
    def _passes(op: Op) -> bool:
        constant = any(isinstance(x, str) for x in op.operands) and op.name != "prelu"
        number = op.name in ("add", "sub") and len(op.operands) < 2
        return op.name in _PASS and not constant and not number

    @staticmethod
    def _multiplies(op: Op) -> bool:
        return op.name in _PRODUCTS and op.operands[2:] in ((), (None,))

    # Operators with weights

    def _parts(self, op: Op) -> dict[str, int | str | None]:
        """Operands of an operator that takes factors up, by their part in it; else empty."""
        operands = op.operands
        if op.name.endswith("batch_norm") or op.name in _NORMS:
            return dict(zip(("x", "weight", "bias", "mean"), operands, strict=False))
        x, weight, bias = (*operands, None, None, None)[:3]
        if op.name == "addmm":
            bias, x, weight = x, weight, bias
        elif op.name in ("add", "sub") and len(operands) == 2:
            x, bias = (weight, x) if isinstance(x, str) else (x, weight)
            return {"x": x, "bias": bias} if bias in self.parameters else {}
        elif op.name not in _PRODUCTS:
            return {}
        if isinstance(x, str) and op.name != "convolution":
            x, weight = weight, x
        return {"x": x, "weight": weight, "bias": bias} if weight in self.parameters else {}

    def _amounts(self, op: Op, factors: Factors) -> dict[str, Fraction]:
        """What the parameters and buffers of an operator have to be multiplied by."""
        parts = self._parts(op)
        if not parts:
            return {}
        before, behind = (
            factors.get(v, _ONE) if isinstance(v, int) else _ONE
            for v in (parts.get("x"), op.outputs[0])
        )
        if op.name in _NORMS and before != 1:
            raise Stuck(f"{op.name}{self._place(op)} takes none up, for its epsilon")
        if "weight" not in parts and before != behind:
            raise Stuck(f"the bias of {op.name}{self._place(op)} needs another factor")
        found = {}
        needed = {"weight": behind / before, "bias": behind, "mean": before}
        for part, operand in parts.items():
            amount = needed.get(part, _ONE)
            if isinstance(operand, str) and (operand in self.parameters or part == "mean"):
                found[operand] = amount
            elif part != "x" and amount != 1 and (part != "bias" or operand is not None):
                raise Stuck(f"{op.name}{self._place(op)} has no {part} of its own")
        return found

    @cached_property
    def _readers(self) -> dict[str, list[Op]]:
        found: dict[str, list[Op]] = {}
        for op in self.trace.ops:
            for name in {x for x in op.operands if isinstance(x, str)}:
                found.setdefault(name, []).append(op)
        return found

    # Places

    def _is_inner(self, value: int) -> bool:
        """Whether all that uses a value is in the trace, and the network does not return it."""
        calls, maker = self.trace.calls, self.trace.maker[value]
        if not self.trace.stopped:
            return value not in calls[0].results
        return any(c.start <= maker < c.end and value not in c.results for c in calls)

    def _place(self, op: Op) -> str:
        path = self.trace.calls[op.call].path if op.call >= 0 else ""
        return f" in {path}" if path else ""
