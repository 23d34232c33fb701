"""Trained modules of published networks, on what they saw of a real photograph."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convattn import authors
from convattn.blocks.ca import CA
from convattn.blocks.cbam import CBAM
from convattn.blocks.eca import ECA
from convattn.blocks.se import SE
from oracles import SHARED

WEIGHTS = SHARED / "data" / "weights"
pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason=f"needs the trained modules in {WEIGHTS}, beside the repository"
)


def modules(name: str) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
    """State dict, input and output of each module in a file."""
    arrays = {k: torch.from_numpy(v) for k, v in np.load(WEIGHTS / name).items()}
    for key in arrays:
        if key.endswith("/in"):
            prefix = key.removesuffix("in") + "param/"
            state = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            yield state, arrays[key], arrays[key.removesuffix("in") + "out"]


def check(block: nn.Module, x: Tensor, expected: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x), expected, rtol=1e-5, atol=2e-6)


def test_coordinate_attention() -> None:
    """FeatherFace V2: CA with ReLU in place of h-swish and without biases."""
    found = 0
    for state, x, y in modules("attention_golden_ca_featherface_v2.npz"):
        block = CA(x.shape[1], act="relu", bias=False)
        block.load_state_dict(
            {re.sub(r"^(conv|bn)_transform", r"\g<1>1", k): v for k, v in state.items()}
        )
        check(block, x, y)
        found += 1
    assert found == 3


def test_cbam() -> None:
    """FeatherFace: CBAM under its authors' keys."""
    found = 0
    for state, x, y in modules("attention_golden_cbam_featherface.npz"):
        reduction = x.shape[1] // state["ChannelGate.mlp.1.bias"].shape[0]
        block = CBAM(x.shape[1], reduction=reduction)
        source = "Jongchan/attention-module:MODELS/cbam.py:CBAM"
        check(authors.load_authors(block, state, source=source), x, y)
        found += 1
    assert found == 4


def test_eca() -> None:
    """FeatherFace ECA+SAM: ECA with the kernel of the paper's rule, then a gate per position."""
    found = 0
    for state, x, y in modules("attention_golden_eca_sam_featherface.npz"):
        eca = ECA(x.shape[1])  # its kernel, 3 or 5, follows from the channels
        eca.load_state_dict({"conv.weight": state["eca.conv.weight"]})
        with torch.no_grad():
            z = eca(x)
            pooled = torch.stack((z.mean(1), z.amax(1)), 1)
            gate = torch.conv2d(pooled, state["sam.conv.weight"], padding=3).sigmoid()
        torch.testing.assert_close(z * gate, y, rtol=1e-5, atol=2e-6)
        found += 1
    assert found == 4


def test_se() -> None:
    """MiniFASNet: 1x1 convolutions each followed by a batch norm, here folded into SE's layers."""
    found = 0
    for state, x, y in modules("attention_golden_se_minifasnet.npz"):
        block = SE(x.shape[1], reduction=4)
        folded = {}
        for i in (1, 2):
            scale = state[f"bn{i}.weight"] / (state[f"bn{i}.running_var"] + 1e-5).sqrt()
            folded[f"fc{i}.weight"] = state[f"fc{i}.weight"][:, :, 0, 0] * scale[:, None]
            folded[f"fc{i}.bias"] = state[f"bn{i}.bias"] - state[f"bn{i}.running_mean"] * scale
        block.load_state_dict(folded)
        check(block, x, y)
        found += 1
    assert found == 3
