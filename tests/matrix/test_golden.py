"""Every golden case whose source we know: the authors' numbers, in float64."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from convattn import authors
from convattn.blocks._base import GateBlock
from oracles import GOLDEN, golden_cases

# cases of an authors' file that was edited in a way no argument of theirs expresses
EDITED: dict[str, dict[str, Any]] = {"BAM_paper_sum": {"variant": "paper"}}


def source_of(case: dict[str, Any]) -> str:
    return f"{case['repository']}:{case['file']}:{case['class_name']}"


KNOWN = [c for c in golden_cases() if source_of(c) in authors.list_sources()]


def arrays(case: dict[str, Any]) -> dict[str, Tensor]:
    return load_file(GOLDEN / "blocks" / case["file_name"])


def part(data: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def build(case: dict[str, Any], data: dict[str, Tensor]) -> nn.Module:
    block = authors.create(source_of(case), **case["constructor"], **EDITED.get(case["block"], {}))
    return authors.load_authors(block.double(), part(data, "param."), source=source_of(case))


def close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape, what
    worst = (actual - expected).abs().max().item()
    assert worst <= tolerance * expected.abs().max().item(), f"{what} differs by {worst}"


def gradients(
    block: nn.Module, case: dict[str, Any], data: dict[str, Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Output, gradient of the input, gradients of parameters under the authors' keys and shapes."""
    x = data["input"].clone().requires_grad_()
    y = block(x)
    (y * data["cotangent"]).sum().backward()
    assert x.grad is not None
    grads = {k: p.grad for k, p in block.named_parameters() if p.grad is not None}
    return y.detach(), x.grad, authors.to_authors(grads, source=source_of(case))


@pytest.mark.parametrize("case", KNOWN, ids=lambda c: c["case"])
def test_eval(case: dict[str, Any]) -> None:
    data = arrays(case)
    block = build(case, data).eval()
    y, grad_input, grads = gradients(block, case, data)
    close(y, data["output_eval"], 1e-10, "output")
    close(grad_input, data["grad_input"], 1e-8, "input gradient")
    expected = part(data, "grad.")
    scale = max((g.abs().max().item() for g in expected.values()), default=0.0)
    for key, gradient in expected.items():
        if key in case["unused_parameters"]:
            continue
        if key in case["identically_zero_gradient"]:
            assert grads[key].abs().max() <= 1e-8 * scale, key
        else:
            close(grads[key], gradient, 1e-8, key)


@pytest.mark.parametrize("case", KNOWN, ids=lambda c: c["case"])
def test_train(case: dict[str, Any]) -> None:
    data = arrays(case)
    if case["train_error"]:
        pytest.skip(f"the authors' code cannot train on this input: {case['train_error']}")
    block = build(case, data).train()
    y, grad_input, _ = gradients(block, case, data)
    close(y, data["output_train"], 1e-10, "output")
    if "grad_input_train" in data:
        close(grad_input, data["grad_input_train"], 1e-8, "input gradient")
    after = authors.to_authors(block, source=source_of(case))
    for key, buffer in part(data, "buffer_after_train.").items():
        torch.testing.assert_close(after[key], buffer, rtol=1e-10, atol=0)


@pytest.mark.parametrize("case", KNOWN, ids=lambda c: c["case"])
def test_state_dict_there_and_back(case: dict[str, Any]) -> None:
    data = arrays(case)
    block = build(case, data)
    back = authors.to_authors(block, source=source_of(case))
    assert [[k, list(v.shape)] for k, v in back.items()] == case["keys"]
    for key, value in part(data, "param.").items():
        assert torch.equal(back[key].double(), value.double()), key
    unused = sum(back[key].numel() for key in case["unused_parameters"])  # buffers of ours
    assert sum(p.numel() for p in block.parameters()) == case["parameters"] - unused


# ----------------------------------------------------- the vectors notice what is broken on purpose

Break = Callable[[Any, pytest.MonkeyPatch], None]

# Their axes may change places: they see means over all of the map, or treat both axes alike.
SYMMETRIC = {"ECA", "ECA_NS", "SE_bias", "SE_nobias", "SE_SEM", "SRM", "SGE", "SA", "SimAM"}
SYMMETRIC |= {"GE_theta_minus", "GSoP_channel", "ELA_T", "ELA_B", "ELA_S", "ELA_L"}


def _without_gate(k: int) -> Break:
    def breaks(block: Any, patch: pytest.MonkeyPatch) -> None:
        right = block.gates
        patch.setattr(block, "gates", lambda x: (*right(x)[:k], *right(x)[k + 1 :]), raising=False)

    return breaks


def _zeroed(key: str) -> Break:
    def breaks(block: nn.Module, patch: pytest.MonkeyPatch) -> None:
        nn.init.zeros_(block.get_parameter(key))

    return breaks


def _no_sigmoid(block: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(block, "gate", lambda logits: logits, raising=False)


def _axes_exchanged(block: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(block, "forward", lambda x: type(block).forward(block, x.mT.contiguous()).mT)


def _broken() -> Iterator[Any]:
    """Of each gate block: a gate left out, no sigmoid, axes exchanged, each bias left out."""
    for name, case in {case["block"]: case for case in KNOWN}.items():
        data = arrays(case)
        block: Any = build(case, data).eval()
        if not isinstance(block, GateBlock):
            continue
        ways: dict[str, Break] = {}
        for k in range(len(block.gates(data["input"]))):
            ways[f"without gate {k}"] = _without_gate(k)
        if "self.gate(" in inspect.getsource(type(block)):
            ways["no sigmoid"] = _no_sigmoid
        if name not in SYMMETRIC and "size" not in case["constructor"]:
            ways["axes exchanged"] = _axes_exchanged
        for key, parameter in block.named_parameters():
            if "bias" in key and parameter.any():
                ways[f"no {key}"] = _zeroed(key)
        for what, way in ways.items():
            yield pytest.param(case, way, id=f"{name}-{what}")


@pytest.mark.parametrize(("case", "way"), [*_broken()])
def test_a_broken_block_is_noticed(
    case: dict[str, Any], way: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = arrays(case)
    block = build(case, data).eval()
    with torch.no_grad():
        close(block(data["input"]), data["output_eval"], 1e-10, "right")
        way(block, monkeypatch)
        with pytest.raises((AssertionError, RuntimeError), match=r"differs|must match"):
            close(block(data["input"]), data["output_eval"], 1e-10, "broken")
