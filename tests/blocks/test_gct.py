"""GCT by its equations in loops, its start, its keys, and half precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from convattn import authors
from convattn.blocks.gct import GCT
from convattn.core.errors import ArgumentError

SOURCE = "z-x-yang/GCT:PyTorch/GCT.py:GCT"


@pytest.mark.parametrize(
    ("norm", "variant"), [("l2", "authors"), ("l2", "paper"), ("l1", "authors")]
)
def test_equations(norm: str, variant: str) -> None:
    channels, eps = 5, 0.3
    block = GCT(channels, norm=norm, eps=eps, variant=variant).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, channels, 3, 4, dtype=torch.float64)
    y = block(x)
    alpha, gamma, beta = (p.flatten().tolist() for p in block.parameters())
    for n in range(2):
        values = [x[n, c].flatten().tolist() for c in range(channels)]
        if norm == "l1":
            s = [a * sum(abs(v) for v in vs) for a, vs in zip(alpha, values, strict=True)]
            size = sum(abs(t) for t in s) / channels + eps
        else:
            s = [
                a * math.sqrt(sum(v * v for v in vs) + eps)
                for a, vs in zip(alpha, values, strict=True)
            ]
            squares = sum(t * t for t in s)
            size = math.sqrt(squares / channels + eps)
            if variant == "paper":
                size = math.sqrt(squares + eps) / math.sqrt(channels)
        for c in range(channels):
            gate = 1 + math.tanh(gamma[c] * s[c] / size + beta[c])
            torch.testing.assert_close(y[n, c], x[n, c] * gate, rtol=1e-12, atol=1e-12)


def test_starts_as_the_identity() -> None:
    x = torch.randn(2, 4, 5, 3)
    assert torch.equal(GCT(4)(x), x)


def test_keys_of_the_authors() -> None:
    block = authors.create(SOURCE, num_channels=4, mode="l1", after_relu=True)
    state = authors.to_authors(block, source=SOURCE)
    assert {k: tuple(v.shape) for k, v in state.items()} == dict.fromkeys(
        ("alpha", "gamma", "beta"), (1, 4, 1, 1)
    )
    authors.load_authors(block, state, source=SOURCE)


def test_large_maps_in_half_precision() -> None:
    block = GCT(4).half()
    with torch.no_grad():
        block.gamma.fill_(1)
    y = block(100 * torch.ones(1, 4, 64, 64, dtype=torch.float16))
    assert y.isfinite().all()
    expected = 100 * (1 + math.tanh(1))
    assert (y - expected).abs().max() < 0.2


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="l1"):
        GCT(4, norm="l1", variant="paper")
    with pytest.raises(ArgumentError, match="eps"):
        GCT(4, eps=0)
