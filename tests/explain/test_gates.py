"""Gate maps are the gates that the model multiplied by; the model is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convattn
from convattn import create_block, create_model
from convattn.blocks._base import GateBlock
from convattn.core.errors import ArgumentError, InputError
from convattn.explain import gate_maps

X = torch.rand(2, 32, 6, 10)


def small(attention: str = "ca") -> nn.Module:
    return create_model("mobilenet_v2", attention=attention, width_mult=0.35, num_classes=5)


@pytest.mark.parametrize("name", ["ca", "se", "cbam", "eca", "triplet"])
def test_the_map_times_the_input_is_the_output(name: str) -> None:
    block = create_block(name, 32).eval()
    (found,) = gate_maps(block, X)
    assert (found.path, found.block) == ("", name)
    assert found.map.shape == (2, 6, 10)
    assert found.map.dtype == torch.float32
    with torch.no_grad():  # of an input of ones, the output is the product of the gates
        ones = torch.ones_like(X)
        (of_ones,) = gate_maps(block, ones)
        torch.testing.assert_close(of_ones.map, block(ones).mean(1))
        torch.testing.assert_close(found.map, (block(X) / X).mean(1))


def test_coordinate_gates_are_kept_as_they_are() -> None:
    (found,) = gate_maps(create_block("ca", 32), X)
    assert [tuple(g.shape) for g in found.gates] == [(2, 32, 1, 10), (2, 32, 6, 1)]
    assert not any(g.requires_grad for g in found.gates)


def test_every_block_of_a_network_in_order() -> None:
    model = small()
    found = gate_maps(model, torch.rand(2, 3, 64, 32))
    assert [g.path for g in found] == [f"blocks.{i}.after_depthwise" for i in range(1, 17)]
    assert found[0].map.shape == (2, 16, 8)
    assert found[-1].map.shape == (2, 2, 1)


class Counted(GateBlock):
    calls = 0

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        Counted.calls += 1
        return (torch.full((len(x), 1, 1, 1), 0.5),)


class Fused(Counted):
    """A forward that never asks for its gates."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


@pytest.mark.parametrize("block", [Counted, Fused])
def test_gates_are_computed_once(block: type[Counted]) -> None:
    Counted.calls = 0
    twice = block(3)
    found = gate_maps(nn.Sequential(twice, nn.Identity(), twice), torch.rand(2, 3, 4, 4))
    assert Counted.calls == 2  # the one block runs twice
    assert [g.path for g in found] == ["0", "0"]
    assert torch.equal(found[0].map, torch.full((2, 4, 4), 0.5))


def test_blocks_without_gates_are_skipped_beside_others() -> None:
    model = nn.Sequential(create_block("none", 3), create_block("eca", 3))
    assert [g.path for g in gate_maps(model, torch.rand(1, 3, 4, 4))] == ["1"]


@pytest.mark.parametrize("channels", [3, 4])
def test_the_model_is_left_as_it_was(channels: int) -> None:
    model = small("cbam").train()
    model.stem.eval()
    before = copy.deepcopy(model.state_dict())
    inside = [(m.training, dict(vars(m)), dict(m._forward_hooks)) for m in model.modules()]
    images = torch.rand(2, channels, 32, 32)
    if channels == 3:
        first = gate_maps(model, images)[0]
        assert torch.equal(first.map, gate_maps(model, images)[0].map)
    else:
        with pytest.raises(RuntimeError, match="channels"):
            gate_maps(model, images)
    after = [(m.training, dict(vars(m)), dict(m._forward_hooks)) for m in model.modules()]
    assert [(t, v.keys(), h) for t, v, h in inside] == [(t, v.keys(), h) for t, v, h in after]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_model_without_gates_says_how_to_get_some() -> None:
    with pytest.raises(ArgumentError, match=r'create_model\(.*attention="ca"\)'):
        gate_maps(small("none"), torch.rand(1, 3, 32, 32))
    with pytest.raises(ArgumentError, match="no gate block"):
        gate_maps(create_block("none", 3), torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.rand(3, 32, 32), r"unsqueeze\(0\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"float\(\) / 255"),
        (torch.rand(0, 3, 32, 32), r"\(N, 3, H, W\)"),
        ([[1.0]], "torch.Tensor"),
    ],
)
def test_wrong_images(images: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        gate_maps(create_block("ca", 3), images)


def test_public_name() -> None:
    assert convattn.gate_maps is gate_maps
