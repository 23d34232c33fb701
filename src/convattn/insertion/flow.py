"""What a trace says about a network: activations, shortcuts, building blocks."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from math import prod

from convattn.insertion.trace import Call, Op, Trace

__all__ = ["Flow", "Residual"]

_NOT_POINTWISE = ("pool", "upsample", "roll", "flip", "cumsum", "softmax")
_SHORTCUT = 2  # convolutions: a projection, in GhostNet behind a depthwise one


@dataclass(frozen=True)
class Residual:
    """A sum of a branch with the shortcut round it.

    Attributes:
        branch: the value that the branch adds.
        shortcut: the value that goes round it.
        total: the value of the sum.
        call: the module that adds, or the next one round it that holds the branch's convolutions.
    """

    branch: int
    shortcut: int
    total: int
    call: Call


class Flow:
    """Questions about one trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.consumers: dict[int, list[int]] = {}
        for i, op in enumerate(trace.ops):
            for value in set(op.inputs):
                self.consumers.setdefault(value, []).append(i)

    @cached_property
    def ndim(self) -> int:
        """Axes of maps behind the channels: the image's, or the first convolution's."""
        sizes = (self.trace.size, *(op.weight for op in self.trace.ops))
        return next((len(size) - 2 for size in sizes if size), 2)

    def is_map(self, value: int) -> bool:
        """Whether a value is (N, C, H, W), or (N, C, L) or (N, C, D, H, W) in other networks."""
        return len(self.trace.shapes[value]) == self.ndim + 2

    def area(self, value: int) -> int:
        """H * W."""
        return prod(self.trace.shapes[value][2:])

    def is_1x1(self, op: Op) -> bool:
        """Whether an operator is a convolution whose kernel has one position."""
        return op.weight[2:] == (1,) * self.ndim

    def made_by(self, value: int) -> Op | None:
        """The operator that made a value; None for the input."""
        return self.trace.ops[self.trace.maker[value]] if value in self.trace.maker else None

    def viewed(self, value: int) -> int:
        """What a value is a view of, with axes of length 1 more or fewer."""
        while (op := self.made_by(value)) is not None and op.name in ("squeeze", "unsqueeze"):
            value = op.inputs[0]
        return value

    # Chains of norms and activations

    def after(self, value: int) -> int:
        """The value behind the norm and activation that follow, or `value` itself."""
        while (following := self._next(value)) is not None:
            value = following
        return value

    def _next(self, value: int) -> int | None:
        users = self.consumers.get(value, [])
        if not users:
            return None
        if len(users) == 1:
            op = self.trace.ops[users[0]]
            if self._pointwise(op) and len(set(op.inputs)) == 1 and self._same(value, op):
                return op.outputs[0]
        return self._activation_module(value, users)

    def _activation_module(self, value: int, users: list[int]) -> int | None:
        """The output of a module that alone takes `value` and works on each position by itself."""
        for call in self.trace.calls:
            if (
                call.inputs == (value,)
                and call.output not in (None, value)
                and call.start <= users[0]
                and users[-1] < call.end
                and self.trace.shapes[call.output or 0] == self.trace.shapes[value]
                and all(self._elementwise(value, i) for i in range(call.start, call.end))
            ):
                return call.output
        return None

    def _elementwise(self, value: int, i: int) -> bool:
        op = self.trace.ops[i]
        return self._pointwise(op) and self._same(value, op)

    def _pointwise(self, op: Op) -> bool:
        return not op.is_product and not any(word in op.name for word in _NOT_POINTWISE)

    def _same(self, value: int, op: Op) -> bool:
        return bool(op.outputs) and (
            self.trace.shapes[op.outputs[0]] == self.trace.shapes[value] and self.is_map(value)
        )

    def origin(self, value: int) -> int | None:
        """The convolution behind which only norms, activations and gates made `value`."""
        while (op := self.made_by(value)) is not None:
            if op.name == "convolution":
                return self.trace.maker[value]
            if op.is_product:
                return None
            shape = self.trace.shapes[value]
            earlier = [v for v in op.inputs if self.trace.shapes[v] == shape]
            if not earlier or not self._pointwise(op):
                return None
            value = earlier[0]
        return None

    def channels_last(self, value: int) -> bool:
        """Whether a map is (N, H, W, C): a linear layer or a norm over the last axis made it."""
        shape, open_values, seen = self.trace.shapes[value], [value], {value}
        while open_values:
            op = self.made_by(open_values.pop())
            if op is None or op.name in ("convolution", "permute", "transpose"):
                continue
            if op.name == "native_layer_norm":
                return True
            products = [self.made_by(v) for v in op.inputs if len(self.trace.shapes[v]) in (2, 3)]
            if op.name in ("view", "unsafe_view") and any(
                p and p.is_product and self.trace.shapes[p.outputs[0]][-1] == shape[-1]
                for p in products
            ):
                return True
            found = {v for v in op.inputs if self.trace.shapes[v] == shape} - seen
            seen |= found
            open_values += found
        return False

    # Shortcuts

    @cached_property
    def residuals(self) -> list[Residual]:
        """All sums of a branch that convolves with a shortcut that convolves less.

        Those inside the branch of another sum of the same module are its own affair: Res2Net adds
        the parts of its branch up.
        """
        found = [r for op in self.trace.ops if (r := self._residual(op)) is not None]
        return [
            r
            for r in found
            if not any(
                r.call is other.call
                and r.total < other.branch
                and self._depends(other.branch, r.total)
                and not self._depends(other.shortcut, r.total)
                for other in found
            )
        ]

    def _depends(self, value: int, earlier: int) -> bool:
        """Whether `value` was made from `earlier`, or is it."""
        open_values, seen = [value], {value}
        while open_values:
            op = self.made_by(open_values.pop())
            fresh = {v for v in op.inputs if v >= earlier} - seen if op else set()
            seen |= fresh
            open_values += fresh
        return earlier in seen

    def _residual(self, op: Op) -> Residual | None:
        if op.name != "add" or len(op.inputs) != 2 or op.inputs[0] == op.inputs[1]:
            return None
        a, b = op.inputs
        if not self.is_map(a) or self.trace.shapes[a] != self.trace.shapes[b]:
            return None
        convolved = self._meet(a, b)
        # both sides of a sum of parallel branches convolve; a shortcut at most projects
        if convolved is None or convolved[0] == convolved[1] or min(convolved) > _SHORTCUT:
            return None
        branch, shortcut = (a, b) if convolved[0] > convolved[1] else (b, a)
        call = self.trace.calls[op.call]
        while call.parent >= 0 and not self._branch_products(branch, call):
            call = self.trace.calls[call.parent]
        return Residual(branch, shortcut, op.outputs[0], call)

    def _meet(self, a: int, b: int) -> tuple[int, int] | None:
        """Products on the way from the last value that both depend on, to each of them.

        Ways through smaller or enlarged maps do not count: a feature pyramid merges, it has no
        shortcut.
        """
        area = self.area(a)
        count: dict[int, dict[int, int]] = {a: {0: 0}, b: {1: 0}}
        heap = sorted((-a, -b))
        while heap:
            value = -heapq.heappop(heap)
            mine = count[value]
            if len(mine) == 2:
                return mine[0], mine[1]
            op = self.made_by(value)
            for v in set(op.inputs) if op and "upsample" not in op.name else ():
                if self.is_map(v) and self.area(v) < area:
                    continue
                if v not in count:
                    heapq.heappush(heap, -v)
                    count[v] = {}
                for side, n in mine.items():
                    longer = n + (op.is_product if op else 0)
                    count[v][side] = max(longer, count[v].get(side, 0))
        return None

    def _branch_products(self, value: int, call: Call) -> list[int]:
        """Convolutions inside `call` on which `value` depends, in order; none on pooled maps."""
        least = min(2, self.area(value)) if self.is_map(value) else 2  # the last maps may be 1x1
        found, open_values, seen = set(), [value], {value}
        while open_values:
            i = self.trace.maker.get(open_values.pop())
            if i is None or not call.start <= i < call.end:
                continue
            op = self.trace.ops[i]
            made = op.outputs[0]
            if op.is_product and (not self.is_map(made) or self.area(made) >= least):
                found.add(i)
            fresh = set(op.inputs) - seen
            seen |= fresh
            open_values += fresh
        return sorted(found)

    def branch(self, value: int, call: Call) -> list[int]:
        """Convolutions of a building block's branch that ends in `value`, in order."""
        products = self._branch_products(value, call)
        return [i for i in products if len(self.trace.ops[i].weight) == self.ndim + 2]

    # Building blocks

    @cached_property
    def blocks(self) -> list[tuple[Call, int]]:
        """Building blocks with the value that ends their branch.

        Modules that add a shortcut, and others of the same class, which have none because the
        map changes: their output is what would be added.
        """
        owners = {id(r.call): r.call for r in self.residuals}
        kinds = {type(call.module) for call in owners.values()}
        found = [(r.call, r.branch) for r in self.residuals]
        for call in self.trace.calls:
            output = call.output
            if type(call.module) not in kinds or id(call) in owners or output is None:
                continue
            if self.is_map(output) and self.trace.convolutions(call):
                found.append((call, output))
        return sorted(found, key=lambda block: block[1])
