"""One run of a host on tensors without storage: which module made which map, from what.

The host itself never runs. Its structure is copied with stand-ins for all tensors, so buffers,
modes and random state stay as they are and nothing is computed.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convattn.blocks._base import Block
from convattn.core.errors import ArgumentError, InputError
from convattn.insertion.recording import Recording, recorded_calls
from convattn.insertion.surgery import is_ours, mark_of
from convattn.insertion.trace import Trace

__all__ = ["Probe", "probe"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
# tried in turn where nobody says the size: classifiers that flatten accept one size only
_SIZES: dict[int, tuple[tuple[int, ...], ...]] = {
    1: tuple((n,) for n in (1024, 128, 224, 256, 512, 2048, 4096, 8000, 16000, 100, 187)),
    2: tuple((n, n) for n in (224, 32, 64, 128, 256, 299, 28, 96, 160, 192, 320, 384, 512)),
    3: ((16, 112, 112), (32, 32, 32), (64, 64, 64), (16, 64, 64), (8, 224, 224), (28, 28, 28)),
}


@contextmanager
def _silence() -> Iterator[None]:
    """Sizes are tried that may fail; PyTorch would log each failure, with its stack."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled


def _foreign_hooks(module: nn.Module) -> bool:
    return not all(is_ours(hook) for hook in module._forward_hooks.values())


def stand_in(host: nn.Module, fake: Any) -> nn.Module:
    """A copy of the host whose tensors have no storage, in eval mode.

    Forward hooks that are not ours stay behind: they watch real runs, not this one.
    """
    memo: dict[int, Any] = {}
    for module in host.modules():
        memo[id(module._forward_hooks)] = type(module._forward_hooks)(
            (key, hook) for key, hook in module._forward_hooks.items() if is_ours(hook)
        )
        mark = mark_of(module)
        if mark is not None:  # it may hold a removed module, with tensors that have no stand-in
            memo[id(mark)] = mark
        for x in (*module._parameters.values(), *module._buffers.values(), *vars(module).values()):
            if isinstance(x, Tensor):
                memo[id(x)] = fake.from_tensor(x)
    return copy.deepcopy(host, memo).eval()


def _sizes(host: nn.Module, input_size: Any) -> list[tuple[int, ...]]:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    inside = {id(m) for b in host.modules() if isinstance(b, Block) for m in b.modules()}
    convolutions = [
        m
        for m in host.modules()
        if isinstance(m, kinds)
        and id(m) not in inside
        # somebody's ECA, across the channels
        and not (isinstance(m, nn.Conv1d) and m.in_channels == m.out_channels == 1)
    ]
    axes = [len(m.kernel_size) for m in convolutions] or [2]
    if input_size is not None:
        size = tuple(input_size) if isinstance(input_size, Iterable) else ()
        wrong = [n for n in size if isinstance(n, bool) or not isinstance(n, int) or n < 1]
        if wrong or len(size) - 2 not in axes:
            form = ("(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)")[axes[0] - 1]
            example = (1, 3, *_SIZES[axes[0]][0])
            raise ArgumentError(f"input_size must be {form}, such as {example}; got {input_size!r}")
        return [size]
    first = convolutions[0].in_channels if convolutions else 3
    # 3 again for stems that fold the image before they convolve
    return [(1, c, *size) for c in dict.fromkeys((first, 3)) for size in _SIZES[axes[0]]]


@dataclass
class Probe:
    """A stand-in of a host that can run, and what it did at first.

    Attributes:
        twin: the stand-in; its modules have the host's paths.
        trace: of its run.
    """

    twin: nn.Module
    trace: Trace
    fake: Any
    arguments: Arguments

    def copy(self, block: nn.Module) -> nn.Module:
        """A stand-in of a block, to be attached to the twin."""
        return stand_in(block, self.fake)

    def run_again(self) -> Trace:
        """What the twin does now."""
        return _run(self.twin, self.arguments, self.fake, self.trace.size)


def probe(host: nn.Module, input_size: Any = None, inputs: Any = None) -> Probe:
    """Run a stand-in of the host once.

    Where the run depends on values (a detector's boxes), the trace ends there and says so.

    Args:
        host: not changed.
        input_size: (N, C, H, W) of its image; None tries 224 and other usual sizes.
        inputs: instead, the tuple of arguments that it takes, or a dict of them by name.

    Raises:
        InputError: the host fails on this input; the cause is chained.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    first = next((p for p in host.parameters() if p.is_floating_point()), None)
    options: dict[str, Any] = {}
    if first is not None:
        options = {"dtype": first.dtype, "device": first.device}
    sizes: list[tuple[int, ...]] = [()] if inputs is not None else _sizes(host, input_size)
    errors: list[Exception] = []
    for size in sizes:
        fake = FakeTensorMode(allow_non_fake_inputs=True)  # tensors in lists have no stand-in
        twin = stand_in(host, fake)
        with fake:
            image = torch.empty(size, **options)
        arguments = ((image,), {}) if inputs is None else _fake_arguments(inputs, fake)
        try:
            return Probe(twin, _run(twin, arguments, fake, size), fake, arguments)
        except Exception as error:
            errors.append(error)
    tried = "these inputs" if inputs is not None else f"input size {sizes[0]}"
    hint = ""
    if input_size is None and inputs is None:
        n, c, *axes = sizes[0]
        hint = (
            f"; tell its size with input_size=({n}, {c}, {('L', 'H, W', 'D, H, W')[len(axes) - 1]})"
        )
    hooked = [p or "(the model)" for p, m in host.named_modules() if _foreign_hooks(m)]
    if hooked:
        hint += f"; it ran without the forward hooks of {', '.join(hooked[:3])}, which may be why"
    raise InputError(f"{type(host).__name__} fails on {tried}: {errors[0]}{hint}") from errors[0]


def _fake_arguments(inputs: Any, fake: Any) -> Arguments:
    as_fake = lambda x: fake.from_tensor(x) if isinstance(x, Tensor) else x  # noqa: E731
    inputs = torch.utils._pytree.tree_map(as_fake, inputs)
    if isinstance(inputs, dict):
        return (), inputs
    return inputs if isinstance(inputs, tuple) else (inputs,), {}


def _run(twin: nn.Module, arguments: Arguments, fake: Any, size: tuple[int, ...]) -> Trace:
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedFakeTensorException,
    )

    trace = Trace(size)
    recording = Recording(trace, [-1], twin)
    for x in torch.utils._pytree.tree_leaves(arguments):
        if isinstance(x, Tensor):
            recording.number(x)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with fake, torch.no_grad(), recorded_calls(twin, recording), recording, _silence():
            twin(*arguments[0], **arguments[1])
    except (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedFakeTensorException,
    ) as error:
        trace.stopped = f"{type(error).__name__}: {error}"
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return trace
