"""On a GPU: what share of a copy's bandwidth each operator reaches, and CA beside torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import peer
from benchmarks.suites import FORMATS, GRID
from benchmarks.timing import Timing, interleaved
from convattn import create_block

__all__ = ["gpu"]

Row = dict[str, Any]
_REPEATS = 20  # calls between two waits for the GPU
# Maps that an operator reads and writes.
_MOVED = {
    "strip_means": 1, "global_mean": 1, "apply_gates": 2, "gate_gradients": 2, "map_gradient": 2,
}  # fmt: skip


def gpu(options: Any) -> Iterator[Row]:
    """Maps of four times the L2's size; --batch, --blocks and --against have no effect."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    for dtype in (torch.bfloat16, torch.float32):
        for channels, size in GRID:
            if channels not in options.maps:
                continue
            batch = -(-4 * cache // (channels * size * size * dtype.itemsize))
            for layout in options.formats:
                x = torch.randn(batch, channels, size, size, dtype=dtype, device="cuda")
                x = x.contiguous(memory_format=FORMATS[layout])
                facts = {"shape": tuple(x.shape), "format": layout}
                yield from (row | facts for row in _operators(x, options.seconds))
                if dtype is torch.bfloat16:
                    yield _training(x, options.seconds) | facts


def _operators(x: Tensor, seconds: float) -> Iterator[Row]:
    n, c, h, w = x.shape
    column, row = x.new_empty(n, c, 1, w).uniform_(), x.new_empty(n, c, h, 1).uniform_()
    dy, target, space = torch.randn_like(x), torch.empty_like(x), torch.ops.convattn
    times = _timed(
        {
            "copy": lambda: target.copy_(x),
            "strip_means": lambda: space.strip_means(x),
            "global_mean": lambda: space.global_mean(x),
            "apply_gates": lambda: space.apply_gates(x, column, row),
            "gate_gradients": lambda: space.gate_gradients(dy, x, column, row),
            "map_gradient": lambda: space.map_gradient(dy, column, row, None, row, column),
        },
        seconds,
    )
    copy = times["copy"]
    for name, moved in _MOVED.items():
        share, time = moved / 2, times[name]  # a copy moves two maps
        yield {
            "block": f"{name} in {str(x.dtype).removeprefix('torch.')}",
            "microseconds": {"copy": asdict(copy), "ours": asdict(time)},
            "ratio": {"share of the copy's bandwidth": share * copy.median / time.median},
            "ratio_of_fastest": {
                "share of the copy's bandwidth": share * copy.fastest / time.fastest
            },
        }


def _training(x: Tensor, seconds: float) -> Row:
    """CA's forward and backward under autocast, as mixed-precision training runs it."""
    torch.manual_seed(0)
    block = create_block("ca", x.shape[1]).train().cuda()
    x, dy = x.detach().requires_grad_(), torch.randn_like(x)

    def step(call: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        def run() -> object:
            x.grad = None
            with torch.autocast("cuda", torch.bfloat16):
                y = call(x)
            y.backward(dy)
            return x.grad

        return run

    calls = {"ours": step(block)}
    for kind in ("eager", "compile"):
        other = peer(kind, "ca", block)
        assert other is not None
        calls[kind] = step(other)
    times = _timed(calls, seconds)
    ours = times["ours"]
    others = {kind: time for kind, time in times.items() if kind != "ours"}
    return {
        "block": "ca",
        "microseconds": {kind: asdict(time) for kind, time in times.items()},
        "ratio": {f"{kind}/ours": t.median / ours.median for kind, t in others.items()},
        "ratio_of_fastest": {
            f"{kind}/ours": t.fastest / ours.fastest for kind, t in others.items()
        },
    }


def _timed(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
    """Microseconds of one call: many are sent to the GPU at once, and waited for together."""

    def several(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(_REPEATS):
                call()
            torch.cuda.synchronize()

        return run

    times = interleaved({name: several(call) for name, call in calls.items()}, seconds)
    return {
        name: replace(
            t, median=t.median / _REPEATS, low=t.low / _REPEATS,
            high=t.high / _REPEATS, fastest=t.fastest / _REPEATS,
        )
        for name, t in times.items()
    }  # fmt: skip
