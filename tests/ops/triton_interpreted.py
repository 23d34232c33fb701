"""Tests of the GPU kernels in Triton's interpreter; test_triton.py runs them with it switched on.

Formulas in float64 are the oracle, and PyTorch's own operators for a whole block. The interpreter
takes milliseconds for a program, so maps are small, and tiles are made small too: each test sees
several tiles along each axis. It cuts bfloat16 where a GPU rounds, hence 2**-7 there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from convattn import ops
from convattn.blocks import create_block
from convattn.ops import _triton as launch

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-7}
SIZES = [(1, 1, 1, 1), (2, 1, 7, 7), (1, 5, 13, 5), (1, 1, 33, 65), (3, 4, 1, 9), (2, 17, 6, 1)]
KINDS: dict[str, Callable[[int, int, int, int], tuple[int, ...]]] = {
    "channel": lambda n, c, h, w: (n, c, 1, 1),
    "row": lambda n, c, h, w: (n, c, h, 1),
    "column": lambda n, c, h, w: (n, c, 1, w),
    "position": lambda n, c, h, w: (n, 1, h, w),
}
PAIRS = [("column", "row"), ("row", "column"), ("channel", "position")]
GATES = [*((kind,) for kind in KINDS), *PAIRS]
OPERATORS = {
    "strip_means": "strip_means", "global_mean": "global_mean",
    "apply_gates": "apply_gates", "gate_gradients": "apply_gates", "map_gradient": "apply_gates",
}  # fmt: skip


MADE = {
    name: getattr(importlib.import_module(f"convattn.ops.{folder}.triton"), name)
    for name, folder in OPERATORS.items()
}


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The operators, with tiles of 256 values."""
    for name, value in {"_TILE": 256, "_LINE": 64, "_RUN": 16}.items():
        monkeypatch.setattr(launch, name, value)
    return SimpleNamespace(launch=launch, **MADE)


@pytest.fixture
def in_place_of_the_cpus(
    interpreted: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The interpreted kernels where PyTorch looks for the CPU's, whatever the map's size."""
    library = torch.library.Library("convattn", "IMPL")
    for name in OPERATORS:
        library.impl(name, getattr(interpreted, name), "CPU", allow_override=True)
    for name in ("apply_gates", "global_mean"):
        monkeypatch.setattr(sys.modules[f"convattn.ops.{name}.op"], "SMALL", 0)
    monkeypatch.setattr(sys.modules["convattn.ops._library"], "_PROCESSOR", "interpreter")
    monkeypatch.setattr(sys.modules["convattn.ops._library"], "_live", True)
    yield
    library._destroy()


def a_map(size: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    x = (3 * torch.randn(size) + 1).to(dtype)
    return x.contiguous(memory_format=FORMATS[layout])


def near(found: Tensor, expected: Tensor, bound: float = 1e-6) -> None:
    """To a part of the largest value."""
    assert found.shape == expected.shape
    assert found.is_contiguous()
    scale = expected.abs().max().clamp(min=1e-30)
    assert ((found.double() - expected).abs().max() / scale).item() <= bound


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_means_are_those_of_float64(
    interpreted: SimpleNamespace, size: tuple[int, ...], layout: str, dtype: torch.dtype
) -> None:
    x = a_map(size, layout, dtype)
    exact = x.double()
    rows, columns = interpreted.strip_means(x)
    near(rows, exact.sum(3) / size[3], DTYPES[dtype])
    near(columns, exact.sum(2) / size[2], DTYPES[dtype])
    near(interpreted.global_mean(x), exact.sum((2, 3)) / (size[2] * size[3]), DTYPES[dtype])
    assert rows.dtype == columns.dtype == dtype


@pytest.mark.parametrize("kinds", GATES, ids="-".join)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 9, 13, 5)], ids=str)
def test_gates_and_their_gradients_are_those_of_float64(
    interpreted: SimpleNamespace, size: tuple[int, ...], layout: str, kinds: tuple[str, ...]
) -> None:
    for dtype, bound in DTYPES.items() if kinds == PAIRS[0] else [(torch.float32, 1e-6)]:
        x, dy = a_map(size, layout, dtype), a_map(size, layout, dtype)
        gates = [torch.randn(KINDS[kind](*size)).to(dtype) for kind in kinds]
        y = interpreted.apply_gates(x, *gates)
        product = x.float()
        for gate in gates:
            product = product * gate.float()
        if dtype != torch.bfloat16:
            assert torch.equal(y, product.to(dtype))
        assert y.stride() == x.stride()

        exact = [t.double().requires_grad_() for t in (x, *gates)]
        expected = exact[0]
        for gate in exact[1:]:
            expected = expected * gate
        dx, *of_gates = torch.autograd.grad(expected, exact, dy.double())
        found = interpreted.gate_gradients(dy, x, *gates)
        for one, other in zip(found, of_gates, strict=False):
            near(one, other, bound)
        assert len(of_gates) == 2 or found[1].numel() == 0
        near(interpreted.map_gradient(dy, *gates).contiguous(), dx, bound)


@pytest.mark.parametrize("kinds", GATES, ids="-".join)
@pytest.mark.parametrize("layout", FORMATS)
def test_what_pooling_adds_to_the_maps_gradient(
    interpreted: SimpleNamespace, layout: str, kinds: tuple[str, ...]
) -> None:
    size = (2, 3, 6, 5)
    dy, product = a_map(size, layout), torch.ones(1, dtype=torch.float64)
    gates = [torch.randn(KINDS[kind](*size)) for kind in kinds]
    for gate in gates:
        product = product * gate
    a, b = (*gates, None)[:2]
    mean, row, column = (torch.randn(KINDS[kind](*size)) for kind in ("channel", "row", "column"))
    found = interpreted.map_gradient(dy, a, b, mean=mean)
    near(found.contiguous(), dy * product + mean)
    assert found.stride() == dy.stride()
    found = interpreted.map_gradient(dy, a, b, row=row, column=column)
    near(found.contiguous(), dy * product + row + column)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's 0 * inf
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_spreads_as_in_pytorch(
    interpreted: SimpleNamespace, layout: str, value: float
) -> None:
    x, dy = a_map((2, 3, 9, 5), layout), torch.ones(2, 3, 9, 5)
    dy = dy.contiguous(memory_format=FORMATS[layout])
    gates = (torch.rand(2, 3, 1, 5) + 1, torch.rand(2, 3, 9, 1) + 1)
    x[0, 2, 8, 4], gates[0][1, 1, 0, 4], gates[1][0, 0, 8, 0] = value, value, value
    rows, columns = interpreted.strip_means(x)
    da, db = interpreted.gate_gradients(dy, x, *gates)
    found = (rows, columns, interpreted.global_mean(x), interpreted.apply_gates(x, *gates), da, db)
    through = dy * x
    expected = (
        x.mean(3), x.mean(2), x.mean((2, 3)), x * gates[0] * gates[1],
        (through * gates[1]).sum(2, keepdim=True), (through * gates[0]).sum(3, keepdim=True),
    )  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.isinf(), other.isinf())
        assert not one.isfinite().all()


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e4), (1e-8, 0.0), (1e8, 0.0)], ids=str)
def test_hard_numbers(
    interpreted: SimpleNamespace, layout: str, scale: float, shift: float
) -> None:
    x = (torch.randn(1, 3, 40, 9) * scale + shift).contiguous(memory_format=FORMATS[layout])
    exact = x.double()
    for found, means in zip(
        interpreted.strip_means(x), (exact.mean(3), exact.mean(2)), strict=True
    ):
        assert ((found.double() - means).abs().max() / exact.abs().max()).item() < 1e-6


def test_places_of_64_bits(interpreted: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreted.launch, "_WIDE", 0)
    x = a_map((2, 3, 6, 5), "contiguous")
    near(interpreted.strip_means(x)[1], x.double().mean(2))
    gate = torch.rand(2, 3, 1, 1)
    assert torch.equal(interpreted.apply_gates(x, gate), x * gate)


def test_wrong_arguments_are_refused(interpreted: SimpleNamespace) -> None:
    x, gate = torch.randn(2, 4, 6, 6), torch.rand(2, 4, 6, 1)
    for call in (
        lambda: interpreted.strip_means(x[..., ::2]),
        lambda: interpreted.global_mean(x.double()),
        lambda: interpreted.global_mean(x[:0]),
        lambda: interpreted.apply_gates(x, gate[:1]),
        lambda: interpreted.apply_gates(x, gate, gate),
        lambda: interpreted.gate_gradients(x.to(memory_format=torch.channels_last), x, gate),
    ):
        with pytest.raises(RuntimeError, match="convattn operators"):
            call()


@pytest.mark.usefixtures("in_place_of_the_cpus")
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", ["ca", "se", "cbam"])
def test_a_training_step_is_that_of_pytorchs_operators(name: str, layout: str) -> None:
    x = a_map((2, 16, 5, 3), layout).requires_grad_()
    dy = torch.randn(2, 16, 5, 3)
    found = []
    for reference in (False, True):
        torch.manual_seed(0)
        block = create_block(name, 16).train()
        if reference:
            with ops.reference_only():
                block(x).backward(dy)
        else:
            block(x).backward(dy)
        found.append([x.grad, *(p.grad for p in block.parameters()), *block.buffers()])
        x.grad = None
    for one, other in zip(*found, strict=True):
        # the gradient of a bias that a norm subtracts again is zero
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("in_place_of_the_cpus")
def test_compiled_without_a_break() -> None:
    block = create_block("ca", 8).train()
    x = torch.randn(2, 8, 4, 3, requires_grad=True)
    y = torch.compile(block, fullgraph=True, backend="aot_eager")(x)
    found = torch.autograd.grad(y.square().sum(), x)[0]
    with ops.reference_only():
        expected = torch.autograd.grad(block(x).square().sum(), x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("in_place_of_the_cpus")
def test_the_interpreted_operators_are_what_their_fakes_say() -> None:
    x, dy = a_map((2, 3, 5, 4), "channels_last"), a_map((2, 3, 5, 4), "channels_last")
    column, row = torch.rand(2, 3, 1, 4), torch.rand(2, 3, 5, 1)
    space, arguments = torch.ops.convattn, (column, row)
    for operator, given in (
        (space.global_mean, (x,)), (space.strip_means, (x,)), (space.apply_gates, (x, *arguments)),
        (space.gate_gradients, (dy, x, *arguments)), (space.map_gradient, (dy, *arguments)),
    ):  # fmt: skip
        torch.library.opcheck(operator.default, given, test_utils="test_faketensor")
