"""Coordinate attention as one operator in evaluation, against float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn import ops
from convattn.blocks import create_block

needs_kernels = pytest.mark.skipif(
    not ops.kernels().startswith("compiled"),
    reason=f"the compiled operators are not there: {ops.kernels()}",
)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SIZES = [
    (1, 8, 1, 1), (2, 96, 12, 12), (2, 17, 7, 7), (3, 33, 1, 40), (2, 16, 40, 1), (1, 8, 300, 33),
    (4, 40, 9, 130), (1, 64, 28, 28), (3, 960, 7, 7), (2, 144, 14, 20),
]  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "authors": {}, "relu-no-bias": {"act": "relu", "bias": False}, "no-norm": {"norm": False},
    "timm": {"variant": "timm"},
}  # fmt: skip


def a_block(channels: int, **options: Any) -> nn.Module:
    block = create_block("ca", channels, **options)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    if block.norm:
        block.bn1.running_mean.normal_()
        block.bn1.running_var.uniform_(0.5, 2)
    return block.eval()


@needs_kernels
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_output_is_the_blocks_in_float64(
    size: tuple[int, int, int, int], layout: str, options: str
) -> None:
    x = torch.randn(size).contiguous(memory_format=FORMATS[layout])
    block = a_block(size[1], **OPTIONS[options])
    threads = torch.get_num_threads()
    outputs = []
    try:
        for count in (1, 2):  # images are shared out, or the channels of one
            torch.set_num_threads(count)
            with torch.no_grad():
                outputs.append(one_operator(block, x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outputs)
    exact = block.double()(x.double())
    assert outputs[0].stride() == x.stride()
    assert (outputs[0].double() - exact).abs().max() < 1e-5 * exact.abs().max()


def one_operator(block: nn.Module, x: Tensor) -> Tensor:
    """The block's output, computed without its `gates`."""
    block.gates = None
    try:
        return block(x)
    finally:
        del block.gates


@needs_kernels
def test_it_stands_aside_for_norms_that_it_does_not_know() -> None:
    changes: list[Callable[[nn.Module], object]] = [
        lambda b: b.train(), lambda b: b.double(), lambda b: b.bn1.register_forward_hook(print),
        lambda b: setattr(b, "bn1", nn.InstanceNorm2d(8)),
    ]  # fmt: skip
    x = torch.randn(2, 8, 5, 6)
    with torch.no_grad():
        assert taken(a_block(8), x) is not None
        for change in changes:
            block = a_block(8)
            change(block)
            assert taken(block, x) is None


def taken(block: nn.Module, x: Tensor) -> Tensor | None:
    return ops.coordinate_attention(
        x, block.conv1, block.bn1, block.conv_h, block.conv_w, relu=False, scale=1.0
    )


@needs_kernels
def test_started_as_the_identity_it_returns_its_input() -> None:
    block = create_block("ca", 32).eval()
    block.start_as_identity()
    x = torch.randn(2, 32, 9, 14)
    with torch.no_grad():
        assert torch.equal(one_operator(block, x), x)


@needs_kernels
def test_in_training_it_stands_aside_for_what_it_does_not_know() -> None:
    x = torch.randn(2, 16, 5, 6)
    changes: list[Callable[[nn.Module], object]] = [
        lambda b: b.double(), lambda b: b.bn1.register_forward_hook(print),
        lambda b: setattr(b, "bn1", nn.SyncBatchNorm(8)), lambda b: b.to(torch.bfloat16),
        lambda b: nn.utils.parametrizations.weight_norm(b.conv_h),
    ]  # fmt: skip
    assert taken(create_block("ca", 16).train(), x) is not None
    for change in changes:
        block = create_block("ca", 16).train()
        change(block)
        assert taken(block, x) is None
    with torch.autocast("cpu"):
        assert taken(create_block("ca", 16).train(), x) is None
