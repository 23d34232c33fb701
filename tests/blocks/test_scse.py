"""scSE by its equations, under the authors' keys, and its cost."""

from __future__ import annotations

import pytest
import torch

from convattn import authors
from convattn.blocks.scse import ScSE
from convattn.cost import cost

SOURCE = (
    "ai-med/squeeze_and_excitation:squeeze_and_excitation/squeeze_and_excitation.py:"
    "ChannelSpatialSELayer"
)


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_equations(variant: str) -> None:
    block = ScSE(6, variant=variant).double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    hidden = torch.einsum("mc,nc->nm", block.fc1.weight, x.mean((2, 3))) + block.fc1.bias
    logits = torch.einsum("cm,nm->nc", block.fc2.weight, hidden.clamp(min=0)) + block.fc2.bias
    channel = x * torch.sigmoid(logits)[..., None, None]
    logits = torch.einsum("c,nchw->nhw", block.conv.weight[0, :, 0, 0], x) + block.conv.bias
    spatial = x * torch.sigmoid(logits)[:, None]
    expected = torch.maximum(channel, spatial) if variant == "authors" else channel + spatial
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_keys_of_the_authors() -> None:
    block = authors.create(SOURCE, num_channels=6, reduction_ratio=3)
    state = authors.to_authors(block, source=SOURCE)
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "cSE.fc1.weight": (2, 6),
        "cSE.fc1.bias": (2,),
        "cSE.fc2.weight": (6, 2),
        "cSE.fc2.bias": (6,),
        "sSE.conv.weight": (1, 6, 1, 1),
        "sSE.conv.bias": (1,),
    }
    other = authors.create(SOURCE, num_channels=6, reduction_ratio=3)
    authors.load_authors(other, state, source=SOURCE)
    x = torch.randn(2, 6, 3, 4)
    assert torch.equal(other(x), block(x))


def test_two_halves_make_the_identity() -> None:
    block = ScSE(4, variant="paper")
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 3, 5)
    assert torch.equal(block(x), x)


def test_cost() -> None:
    c, m, positions = 16, 8, 30
    counted = cost(ScSE(c), (1, c, 6, 5))
    assert counted.parameters == 2 * c * m + m + 2 * c + 1
    assert counted.macs == 2 * c * m + c * positions
