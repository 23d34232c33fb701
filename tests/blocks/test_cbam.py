"""CBAM's forms without golden vectors: the paper's spatial gate, the other poolings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks.cbam import CBAM
from convattn.core.errors import ArgumentError


def test_the_papers_spatial_gate_has_no_norm() -> None:
    block = CBAM(16, variant="paper").double()
    x = torch.randn(2, 16, 5, 6, dtype=torch.float64)
    pooled = (x.mean((2, 3)), x.amax((2, 3)))
    mlp = [block.fc2(torch.relu(block.fc1(z))) for z in pooled]
    y = x * torch.sigmoid(mlp[0] + mlp[1])[:, :, None, None]
    stacked = torch.stack((y.mean(1), y.amax(1)), 1)
    y = y * torch.sigmoid(F.conv2d(stacked, block.conv.weight, padding=3))
    torch.testing.assert_close(block(x), y, rtol=1e-12, atol=1e-12)
    assert "bn.weight" not in block.state_dict()


def test_other_poolings() -> None:
    block = CBAM(16, pools=("lp", "lse"), spatial=False).double()
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    logits = torch.zeros(2, 16, dtype=torch.float64)
    for z in (x.square().sum((2, 3)).sqrt(), x.exp().sum((2, 3)).log()):
        logits = logits + block.fc2(torch.relu(block.fc1(z)))
    expected = x * torch.sigmoid(logits)[:, :, None, None]
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("pools", "text"),
    [
        ("avg", r"pools must be a tuple of names, such as \('avg',\), got 'avg'"),
        (3, "pools must be a tuple of names"),
        (("mean",), "no pooling 'mean'; there are avg, lp, lse, max"),
        (([1],), r"no pooling \[1\]"),
    ],
)
def test_refusals(pools: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        CBAM(16, pools=pools)
