"""Loading weights under the authors' keys: from files, strictly, and all or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convattn import authors
from convattn.core.errors import (
    ArgumentError,
    CheckpointError,
    StateDictError,
    UnknownNameError,
)

COORDATT = "houqb/CoordAttention:coordatt.py:CoordAtt"
MBV2 = "houqb/CoordAttention:mbv2_ca.py:mbv2_ca"
TRIPLET = "landskape-ai/triplet-attention:triplet_attention.py:TripletAttention"


def block() -> nn.Module:
    torch.manual_seed(0)
    return authors.create(COORDATT, inp=16, oup=16)


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[k], before[k]) for k in after)


def test_from_a_file_as_from_the_mapping(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = authors.to_authors(block(), source=COORDATT)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")
    for file in (tmp_path / "w.pth", str(tmp_path / "w.safetensors")):
        fresh = authors.create(COORDATT, inp=16, oup=16)
        assert authors.load_authors(fresh, file, source=COORDATT) is fresh
        assert unchanged(fresh, copied(block()))
    torch.save(block(), tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match=r"convattn\.blocks\.ca\.CA"):
        authors.load_authors(block(), tmp_path / "module.pth", source=COORDATT)


def test_a_mismatch_names_every_key_with_its_shape_and_loads_nothing() -> None:
    module = block()
    state = authors.to_authors(block(), source=COORDATT)
    for tensor in state.values():
        tensor.add_(1)
    names = list(state)
    gone, odd = names[:6], names[-5:]
    for name in gone:
        state[f"other.{name}"] = state.pop(name)
    for name in odd:
        state[name] = torch.zeros(2, 3)
    before = copied(module)
    shapes = {k: tuple(v.shape) for k, v in authors.to_authors(module, source=COORDATT).items()}
    with pytest.raises(StateDictError) as caught:
        authors.load_authors(module, state, source=COORDATT)
    text = str(caught.value)
    assert "6 missing, 6 unexpected, 5 differently shaped" in text
    for name in gone:
        assert f"{name} {shapes[name]}" in text
        assert f"other.{name} {shapes[name]}" in text
    for name in odd:
        assert f"{name} is (2, 3), expected {shapes[name]}" in text
    assert unchanged(module, before)


@pytest.mark.parametrize("key", authors.to_authors(block(), source=COORDATT))
def test_every_single_key_is_needed(key: str) -> None:
    state = authors.to_authors(block(), source=COORDATT)
    del state[key]
    with pytest.raises(StateDictError, match="1 missing, 0 unexpected"):
        authors.load_authors(block(), state, source=COORDATT)


def test_a_block_that_is_adapted_to_its_weights_is_not_on_an_error() -> None:
    module = authors.create(TRIPLET)
    state = authors.to_authors(module, source=TRIPLET)
    wide = {k: torch.ones(1, 2, 3, 3) if k.endswith("conv.weight") else v for k, v in state.items()}
    before = copied(module)
    with pytest.raises(StateDictError, match="1 unexpected"):
        authors.load_authors(module, {**wide, "more": torch.ones(1)}, source=TRIPLET)
    assert unchanged(module, before)
    authors.load_authors(module, wide, source=TRIPLET)
    loaded = authors.to_authors(module, source=TRIPLET)
    assert all(torch.equal(loaded[key], wide[key]) for key in wide)


def test_networks_saved_before_pytorch_counted_batches() -> None:
    """torchvision's oldest files have no num_batches_tracked; PyTorch loads them strictly too."""
    net = authors.create(MBV2, width_mult=0.1, num_classes=2)
    state = authors.to_authors(net, source=MBV2)
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    old: dict[str, Any] = {k: v for k, v in state.items() if k not in counters}
    authors.load_authors(net, old, source=MBV2)
    with pytest.raises(StateDictError, match="1 missing"):
        authors.load_authors(net, {k: state[k] for k in state if k != counters[3]}, source=MBV2)


@pytest.mark.parametrize(
    ("module", "weights", "text"),
    [
        (nn.Identity(), [1], r"weights must be a state dict or the path of a file, got \[1\]"),
        (3, {}, r"module must be a torch\.nn\.Module, got 3"),
    ],
)
def test_what_is_no_module_or_state_dict_is_refused(module: Any, weights: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        authors.load_authors(module, weights, source=COORDATT)


def test_an_unknown_source_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'houqb/CoordAttention:coordatt\.py"):
        authors.load_authors(block(), {}, source="houqb/CoordAttention:coordatt.py:CoordAt")


@pytest.mark.parametrize(
    ("attention", "key", "parameters"),
    [("SE", "conv.0.weight", 3_888_208), ("CBAM", "ChannelGate.mlp.1.weight", 3_889_808)],
)
def test_the_other_networks_of_the_ca_paper(attention: str, key: str, parameters: int) -> None:
    """Reference section 2: sizes at reduction 24. The skeleton's keys are mbv2_ca.py's."""
    source = f"(paper arXiv 2103.02907):MobileNetV2 with {attention}:-"
    net = authors.create(source)
    assert sum(p.numel() for p in net.parameters()) == parameters
    state = authors.to_authors(net, source=source)
    assert f"features.17.conv.6.{key}" in state
    ca = authors.to_authors(authors.create(MBV2), source=MBV2)
    assert {k for k in state if ".conv.6." not in k} == {k for k in ca if ".conv.6." not in k}
    again = authors.load_authors(authors.create(source), state, source=source)
    assert unchanged(again, copied(net))
