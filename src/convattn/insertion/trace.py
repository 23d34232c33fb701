"""The record of one run: operators, module calls, and the numbers of the tensors between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

__all__ = ["Call", "Op", "Trace"]

_PRODUCTS = ("convolution", "mm", "addmm", "bmm", "baddbmm", "linear", "mv", "addmv")


@dataclass(frozen=True)
class Op:
    """One operator: `inputs` and `outputs` are numbers of values; parameters have none.

    Attributes:
        call: index of the call inside which it ran.
        weight: shape of a convolution's weight.
        operands: its tensors in order: a number, the name of the host's parameter or buffer that
            it is or is a view of, "" for any other tensor; None for an argument that was None.
        fixed: whether it is a convolution whose weight is a buffer, such as a blur.
        in_place: whether it changed a tensor that was there before.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    call: int
    weight: tuple[int, ...] = ()
    groups: int = 1
    operands: tuple[int | str | None, ...] = ()
    fixed: bool = False
    in_place: bool = False

    @property
    def is_product(self) -> bool:
        """A convolution or a matrix product."""
        return self.name in _PRODUCTS


@dataclass
class Call:
    """One call of a module; its operators are `trace.ops[start:end]`.

    Attributes:
        path: of the module, None where it is not registered in the host.
        module: the stand-in's module.
        parent: index of the call inside which this one happened, -1 for the host's own.
        inputs: numbers of the tensors given by position.
        output: number of the tensor returned, None if something else was returned.
        results: numbers of all tensors in what was returned.
        returned: what was returned, in words.
    """

    index: int
    path: str | None
    module: nn.Module
    parent: int
    start: int
    inputs: tuple[int, ...]
    end: int = -1
    output: int | None = None
    results: tuple[int, ...] = ()
    returned: str = "nothing"


@dataclass
class Trace:
    """What one run did; values are numbered in the order in which they came into being."""

    size: tuple[int, ...] = ()
    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    options: list[tuple[torch.dtype, torch.device]] = field(default_factory=list)
    maker: dict[int, int] = field(default_factory=dict)  # value -> operator
    derived: set[str] = field(default_factory=set)  # parameters that others were computed from
    stopped: str = ""  # why the run did not reach its end

    def calls_of(self, module: nn.Module) -> list[Call]:
        """The finished calls of a module of the stand-in."""
        return [c for c in self.calls if c.module is module and c.end >= 0]

    def convolutions(self, call: Call) -> list[int]:
        """Operators of a call that are convolutions."""
        found = range(call.start, call.end)
        return [i for i in found if self.ops[i].name == "convolution"]
