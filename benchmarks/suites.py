"""What is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import Reference, peer
from benchmarks.timing import interleaved
from convattn import create_block, create_model

__all__ = ["GRID", "SUITES"]

# Channels and size of five maps of MobileNetV2 at 224x224, where CA's authors put their block.
GRID = ((96, 112), (144, 56), (192, 28), (384, 14), (960, 7))
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Row = dict[str, Any]


def _step(call: Callable[[Tensor], Tensor], x: Tensor, dy: Tensor | None) -> Callable[[], object]:
    """One inference, or with dy one forward and backward."""
    if dy is None:

        def infer() -> object:
            with torch.no_grad():
                return call(x)

        return infer

    def train() -> object:
        x.grad = None
        call(x).backward(dy)
        return x.grad

    return train


def _cases(options: Any, training: bool) -> Iterator[Row]:
    for name in options.blocks:
        for batch in options.batch:
            for channels, size in GRID:
                if channels not in options.maps:
                    continue
                for layout in options.formats:
                    shape = (batch, channels, size, size)
                    yield {"block": name, "shape": shape, "format": layout} | _one(
                        name, shape, layout, options, training
                    )


def _one(name: str, shape: tuple[int, ...], layout: str, options: Any, training: bool) -> Row:
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=FORMATS[layout])
    target, dy = torch.empty_like(x), torch.randn_like(x) if training else None
    x.requires_grad_(training)
    block = create_block(name, shape[1]).train(training)
    calls = {"ours": _step(block, x, dy), "copy": lambda: target.copy_(x.detach())}
    for kind in options.against:
        other = peer(kind, name, block)
        if other is not None:
            calls[kind] = _step(other, x, dy)
    times = interleaved(calls, options.seconds)
    ratios = {f"{kind}/ours": times[kind].median / times["ours"].median for kind in times}
    fastest = {f"{kind}/ours": times[kind].fastest / times["ours"].fastest for kind in times}
    return {
        "microseconds": {kind: asdict(t) for kind, t in times.items()},
        "ratio": {k: v for k, v in ratios.items() if k != "ours/ours"},
        "ratio_of_fastest": {k: v for k, v in fastest.items() if k != "ours/ours"},
    }


def blocks(options: Any) -> Iterator[Row]:
    """Inference of single blocks."""
    return _cases(options, training=False)


def training(options: Any) -> Iterator[Row]:
    """Forward and backward of single blocks in training."""
    return _cases(options, training=True)


def models(options: Any) -> Iterator[Row]:
    """MobileNetV2 with each block: beside it without, and with the block by PyTorch's operators."""
    for name in options.blocks:
        for batch in options.batch:
            for train in (False, True):
                plain = create_model("mobilenet_v2", num_classes=1000).train(train)
                model = create_model("mobilenet_v2", attention=name, num_classes=1000).train(train)
                x = torch.randn(batch, 3, 224, 224)
                times = interleaved(
                    {
                        "none": _whole(plain, x, train),
                        "ours": _whole(model, x, train),
                        "eager": _whole(Reference(model), x, train),
                    },
                    options.seconds,
                )
                yield {
                    "block": name, "shape": tuple(x.shape), "training": train,
                    "microseconds": {kind: asdict(t) for kind, t in times.items()},
                    "ratio": {k: t.median / times["none"].median for k, t in times.items()},
                    "ratio_of_fastest": {
                        k: t.fastest / times["none"].fastest for k, t in times.items()
                    },
                }  # fmt: skip


def _whole(model: nn.Module, x: Tensor, train: bool) -> Callable[[], object]:
    def run() -> object:
        with nullcontext() if train else torch.no_grad():
            y = model(x)
        if train:
            model.zero_grad(set_to_none=True)
            y.sum().backward()
        return y

    return run


def scaling(options: Any) -> Iterator[Row]:
    """One map of 16 channels from 135x240 to 2160x3840: the cost of a value."""
    for name in options.blocks:
        for fraction in (16, 8, 4, 2, 1):
            shape = (1, 16, 2160 // fraction, 3840 // fraction)
            row = _one(name, shape, "contiguous", options, training=False)
            values = shape[1] * shape[2] * shape[3]
            nanoseconds = row["microseconds"]["ours"]["fastest"] * 1e3 / values
            yield {"block": name, "shape": shape, "nanoseconds_per_value": nanoseconds} | row


SUITES = {"blocks": blocks, "models": models, "training": training, "scaling": scaling}
