"""What a run does, written down while it runs: operators, and the modules that call them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from convattn.insertion.trace import Call, Op, Trace

__all__ = ["Recording", "recorded_calls"]

_IGNORED = ("prim", "profiler")
_VIEWS = (
    *("alias", "detach", "expand", "permute", "reshape", "select", "slice", "split", "squeeze"),
    *("t", "to_copy", "transpose", "unbind", "unsqueeze", "view"),
)


class Recording(TorchDispatchMode):
    """Numbers every tensor that an operator returns; an in-place one gives a new number."""

    def __init__(self, trace: Trace, running: list[int], twin: nn.Module) -> None:
        super().__init__()
        self.trace, self.running = trace, running
        self.numbers: dict[int, int] = {}
        self.buffers = {name for name, _ in twin.named_buffers()}
        self.names = {id(x): name for name, x in [*twin.named_parameters(), *twin.named_buffers()]}
        self.alive: list[Tensor] = []  # so that no id is used twice

    def number(self, x: Tensor) -> int:
        """A new number for the present value of `x`."""
        self.numbers[id(x)] = len(self.trace.shapes)
        self.alive.append(x)
        self.trace.shapes.append(tuple(x.shape))
        self.trace.options.append((x.dtype, x.device))
        return self.numbers[id(x)]

    def known(self, values: Any) -> tuple[int, ...]:
        """Numbers of those tensors among `values`, lists included, that have one."""
        found: list[int] = []
        for value in values:
            if isinstance(value, Tensor):
                found += [self.numbers[id(value)]] if id(value) in self.numbers else []
            elif isinstance(value, (list, tuple)):
                found += self.known(value)
        return tuple(found)

    def operands(self, values: Any) -> Iterator[int | str | None]:
        """See `Op`."""
        for value in values:
            if isinstance(value, Tensor):
                yield self.numbers.get(id(value), self.names.get(id(value), ""))
            elif isinstance(value, (list, tuple)):
                yield from self.operands(x for x in value if isinstance(x, Tensor))
            elif value is None:
                yield None

    def _computed(self, name: str, args: tuple[Any, ...], results: Any) -> None:
        """Tensors made from parameters alone: views keep the name, others are their own."""
        for named in {self.names[id(x)] for x in args if id(x) in self.names}:
            if name in _VIEWS:
                self.names.update((id(x), named) for x in results)
                self.alive += results
            elif results:
                self.trace.derived.add(named)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = (*args, *kwargs.values())
        inputs, operands = self.known(given), tuple(self.operands(given))
        out = func(*args, **kwargs)
        namespace, _, name = func.name().partition("::")
        plain = str(name.partition(".")[0]).strip("_")
        outputs = out if isinstance(out, (tuple, list)) else (out,)
        results = [x for x in outputs if isinstance(x, Tensor)]
        if not inputs:
            self._computed(plain, args, results)
        elif namespace not in _IGNORED:
            made = [self.number(x) for x in results]
            if plain == "constant_pad_nd" and args[2:] not in ((), (0,), (-math.inf,)):
                operands += ("",)
            weight, groups = (tuple(args[1].shape), args[8]) if plain == "convolution" else ((), 1)
            self.trace.maker.update(dict.fromkeys(made, len(self.trace.ops)))
            self.trace.ops.append(
                Op(
                    plain, inputs, tuple(made), self.running[-1], weight, groups, operands,
                    bool(weight) and operands[1] in self.buffers, func._schema.is_mutable,
                )
            )  # fmt: skip
        return out


@contextmanager
def recorded_calls(host: nn.Module, recording: Recording) -> Iterator[None]:
    """Meanwhile calls of modules are written down."""
    trace, running = recording.trace, recording.running
    paths = {id(module): path for path, module in host.named_modules()}

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        call = Call(
            len(trace.calls), paths.get(id(module)), module,
            running[-1], len(trace.ops), recording.known(args),
        )  # fmt: skip
        running.append(call.index)
        trace.calls.append(call)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        call = trace.calls[running.pop()]
        call.end = len(trace.ops)
        call.results = recording.known(torch.utils._pytree.tree_leaves(output))
        if isinstance(output, Tensor):
            call.output = recording.numbers.get(id(output))
            call.returned = f"{str(output.dtype).removeprefix('torch.')} {tuple(output.shape)}"
        else:
            call.returned = type(output).__name__

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
