"""Strip Pooling: the authors' gate alone, and its cost."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from convattn import authors
from convattn.blocks.spm import SPM
from convattn.core.errors import InputError
from convattn.cost import cost
from oracles import GOLDEN, golden_cases

CASES = [c for c in golden_cases() if c["block"] == "SPM"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["case"])
def test_gate(case: dict) -> None:
    data = load_file(GOLDEN / "blocks" / case["file_name"])
    source = "houqb/SPNet:models/resnet.py:SPBlock"
    weights = {k[6:]: v for k, v in data.items() if k.startswith("param.")}
    block = authors.create(source, **case["constructor"]).double().eval()
    authors.load_authors(block, weights, source=source)
    (gate,) = block.gates(data["input"])
    torch.testing.assert_close(gate, data["gate_eval"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 5), (5, 1)])
def test_one_image_and_one_row_in_training(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="Use a larger batch or map"):
        SPM(3)(torch.randn(1, 3, *size))
    assert SPM(3)(torch.randn(2, 3, *size)).isfinite().all()


def test_cost() -> None:
    counted = cost(SPM(12), (1, 12, 9, 7))
    assert counted.parameters == 7 * 12**2 + 5 * 12
    assert counted.macs == 3 * 12**2 * (9 + 7) + 12**2 * 9 * 7
