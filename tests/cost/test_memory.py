"""Peak memory equals closed formulas and what PyTorch's own profiler reports."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convattn import create_block, create_model
from convattn.core.errors import ArgumentError, InputError
from convattn.cost import measure_memory
from convattn.cost.memory import format_bytes


class Negated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_chain_without_gradients_holds_two_maps(length: int, batch: int) -> None:
    size = (batch, 4, 8, 8)
    found = measure_memory(nn.Sequential(*(Negated() for _ in range(length))), size)
    one = batch * 4 * 8 * 8 * 4
    assert found.inference == min(length, 2) * one
    assert found.resident == one
    assert (found.batch, found.device) == (batch, "cpu")


def test_training_keeps_what_the_backward_pass_needs() -> None:
    """A sigmoid keeps its output: n of them in a row keep n maps, where inference holds two."""
    n, size = 6, (2, 4, 32, 32)
    one = 2 * 4 * 32 * 32 * 4
    net = nn.Sequential(nn.Conv2d(4, 4, 1), *(nn.Sigmoid() for _ in range(n)))
    found = measure_memory(net, size)
    assert found.inference < 4 * one
    assert (n + 1) * one <= found.training < (n + 3) * one
    assert found.resident == 4 * (4 * 4 + 4) + one


def test_equals_what_the_profiler_of_pytorch_sees() -> None:
    from torch.profiler import ProfilerActivity, profile

    block, size = create_block("cbam", 32), (2, 32, 12, 10)
    found = measure_memory(block, size)
    x = torch.rand(size)
    for training, expected in ((False, found.inference), (True, found.training)):
        block.train(training)
        x.requires_grad_(training)
        with (
            torch.set_grad_enabled(training),
            profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
        ):
            if training:
                loss = torch.stack([block(x).sum()]).sum()
                torch.autograd.grad(loss, [*block.parameters(), x])
            else:
                block(x)
        events = sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns())
        changes = [e.nbytes() for e in events if e.name() == "[memory]"]
        assert max(itertools.accumulate(changes)) == expected


def test_grows_with_the_batch() -> None:
    net = create_model("mobilenet_v2", attention="ca", width_mult=0.25, num_classes=10)
    found = [measure_memory(net, (n, 3, 64, 64)) for n in (2, 4, 8)]
    for small, large in itertools.pairwise(found):
        assert small.inference < large.inference
        assert small.training < large.training


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    measure_memory(net, (2, 3, 5, 5))
    assert [m.training for m in net.modules()] == [True, True, False, True]
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["simam", "none"])
def test_blocks_without_parameters_are_measured(name: str) -> None:
    assert measure_memory(create_block(name, 8), (2, 8, 6, 6)).resident == 2 * 8 * 36 * 4


def test_a_failure_says_in_which_mode() -> None:
    with pytest.raises(InputError, match=r"BAM fails in training mode on input size \(1, 32, 4"):
        measure_memory(create_block("bam", 32), (1, 32, 4, 4))
    with pytest.raises(InputError, match="eval mode"):
        measure_memory(create_block("ca", 32), (1, 16, 4, 4))
    with pytest.raises(ArgumentError, match=r"such as \(1, 3, 224, 224\)"):
        measure_memory(nn.Identity(), (3,))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (13249920, "12.64 MiB"),
     (3 * 2**30, "3.00 GiB")],
)  # fmt: skip
def test_bytes_have_binary_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_allocator_is_asked() -> None:
    found: Any = measure_memory(nn.Sequential(Negated(), nn.Conv2d(4, 4, 1)).cuda(), (2, 4, 64, 64))
    one = 2 * 4 * 64 * 64 * 4
    assert found.device == "cuda:0"
    assert found.inference >= 2 * one
    assert found.training >= found.inference
