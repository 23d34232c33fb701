"""eSE by its equations, under the authors' keys, equal to timm's, and its cost."""

from __future__ import annotations

import pytest
import torch

from convattn import authors
from convattn.blocks.ese import ESE
from convattn.cost import cost

SOURCE = "youngwanLEE/vovnet-detectron2:vovnet/vovnet.py:eSEModule"


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_equations(variant: str) -> None:
    block = ESE(5, variant=variant).double()
    x = 4 * torch.randn(3, 5, 4, 3, dtype=torch.float64)
    t = torch.einsum("oc,nc->no", block.fc.weight, x.mean((2, 3))) + block.fc.bias
    sigma = (t + 3).clamp(0, 6) / 6 if variant == "authors" else 1 / (1 + (-t).exp())
    torch.testing.assert_close(block(x), x * sigma[..., None, None], rtol=1e-12, atol=1e-12)


def test_keys_of_the_authors_and_of_timm() -> None:
    layers = pytest.importorskip("timm.layers")
    theirs = layers.EffectiveSEModule(6)
    block = authors.create(SOURCE, channel=6)
    authors.load_authors(block, theirs.state_dict(), source=SOURCE)
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-6, atol=1e-6)
    assert [*authors.to_authors(block, source=SOURCE)] == ["fc.weight", "fc.bias"]


def test_scaled_gate_of_zero_is_one() -> None:
    for variant in ("authors", "paper"):
        block = ESE(4, variant=variant)
        block.gate_scale = 2.0
        assert torch.equal(block.gate(torch.zeros(3)), torch.ones(3))


def test_cost() -> None:
    counted = cost(ESE(12), (1, 12, 6, 5))
    assert (counted.parameters, counted.macs) == (12 * 12 + 12, 12 * 12)
