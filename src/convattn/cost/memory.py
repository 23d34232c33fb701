"""Measured peak memory of one forward pass, and of one forward and backward pass.

What PyTorch's allocator handed out at most: on a GPU `torch.cuda.max_memory_allocated`; on the CPU,
whose allocator keeps no such figure, the highest sum of the allocations and releases that it
reports to a profiler, with one thread. Both hold what operators take inside themselves, such as
weights put into another layout; neither holds what a library takes from the system past PyTorch.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig
from torch.utils._pytree import tree_leaves

from convattn.blocks._base import Block
from convattn.core.errors import InputError
from convattn.cost.count import check_input_size
from convattn.cost.latency import noise

__all__ = ["Memory", "format_bytes", "measure_memory"]


@dataclass(frozen=True)
class Memory:
    """Bytes in use while a batch passes.

    Attributes:
        resident: parameters, buffers and the batch, which are there before.
        inference: peak on top of these of a forward pass in eval mode without gradients.
        training: peak on top of these of a forward and backward pass in training mode, with the
            gradients of the parameters; what an optimiser keeps comes on top.
        batch: images per pass.
        device: such as "cpu" or "cuda:0".
    """

    resident: int
    inference: int
    training: int
    batch: int
    device: str

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.inference)} inference, {format_bytes(self.training)} training, "
            f"on top of {format_bytes(self.resident)} weights and input "
            f"(batch {self.batch}, {self.device})"
        )


def format_bytes(count: int) -> str:
    """Bytes in the binary unit that memory is sold in: 13249920 -> "12.64 MiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{value:.2f} {unit}" if unit != "B" else f"{count} B"
        value /= 1024
    return f"{value:.2f} GiB"


def measure_memory(model: nn.Module, input_size: Sequence[int] = (1, 3, 224, 224)) -> Memory:
    """Measure the peak memory of a network or block.

    A copy of it runs, so its weights, modes, gradients and statistics stay as they are. The loss
    is the sum of the outputs. A block's input has a gradient, as inside a network; a network's
    has none.

    Args:
        model: where its parameters are, there it is measured.
        input_size: of the batch, such as (1, 3, 224, 224).

    Raises:
        ArgumentError: `input_size` is no list of sizes.
        InputError: the model fails on this size, or in training on a batch of one; the cause is
            chained.
    """
    size = check_input_size("measure_memory", input_size)
    x = noise(model, size)
    twin = copy.deepcopy(model).requires_grad_(True)
    resident = sum(t.nbytes for t in {id(t): t for t in _tensors(twin)}.values()) + x.nbytes
    try:
        with torch.no_grad():
            inference = _peak(twin.eval(), x, backward=False)
        needs = isinstance(model, Block)
        training = _peak(twin.train(), x.requires_grad_(needs), backward=True)
    except Exception as error:
        mode = "training" if twin.training else "eval"
        raise InputError(
            f"measure_memory: {type(model).__name__} fails in {mode} mode on input size {size}: "
            f"{error}"
        ) from error
    return Memory(resident, inference, training, size[0], str(x.device))


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _peak(model: nn.Module, x: Tensor, *, backward: bool) -> int:
    """Bytes on top of the model and its input; the random state is as before afterwards."""
    on_gpu = x.device.type == "cuda"
    with torch.random.fork_rng([x.device] if on_gpu else []):
        if not on_gpu:
            return _peak_on_cpu(lambda: _pass(model, x, backward))
        torch.cuda.synchronize(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)
        _pass(model, x, backward)
        torch.cuda.synchronize(x.device)
        return torch.cuda.max_memory_allocated(x.device) - before


def _peak_on_cpu(run: Callable[[], None]) -> int:
    # the profiler without Kineto, which would write to stderr and take seconds to start
    config = ProfilerConfig(
        ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _enable_profiler_legacy(config)
        try:
            run()
        finally:
            events = itertools.chain(*_disable_profiler_legacy())
    finally:
        torch.set_num_threads(threads)
    changes = (e.cpu_memory_usage() for e in events if str(e.kind()) == "memory_alloc")
    return max(itertools.accumulate(changes, initial=0))


def _pass(model: nn.Module, x: Tensor, backward: bool) -> None:
    outputs = [t for t in tree_leaves(model(x)) if isinstance(t, Tensor) and t.requires_grad]
    if backward and outputs:
        loss = torch.stack([t.sum() for t in outputs]).sum()
        del outputs
        wanted = [t for t in (*model.parameters(), x) if t.requires_grad]
        torch.autograd.grad(loss, wanted, allow_unused=True)
