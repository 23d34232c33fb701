"""The compiled operators against their formulas in float64, and against PyTorch's own operators."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convattn import ops
from convattn.blocks import create_block
from convattn.doctor import doctor
from convattn.ops._library import takes
from convattn.ops.apply_gates.op import apply_gates
from own_process import run_tests

LIVE = ops.kernels().startswith("compiled")
needs_kernels = pytest.mark.skipif(
    not LIVE, reason=f"the compiled operators are not there: {ops.kernels()}"
)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# rows shorter and longer than a vector of 16, 4 rows and rests, a chain of sums that is cut
SIZES = [
    (1, 1, 1, 1), (2, 3, 5, 4), (1, 96, 12, 12), (2, 17, 7, 7), (3, 33, 1, 40), (2, 16, 40, 1),
    (1, 5, 300, 33), (2, 40, 9, 130), (1, 2, 3, 2100), (1, 2, 270, 5), (1, 64, 16, 16),
]  # fmt: skip
KINDS: dict[str, Callable[[int, int, int, int], tuple[int, ...]]] = {
    "channel": lambda n, c, h, w: (n, c, 1, 1),
    "row": lambda n, c, h, w: (n, c, h, 1),
    "column": lambda n, c, h, w: (n, c, 1, w),
    "position": lambda n, c, h, w: (n, 1, h, w),
}
PAIRS = [("column", "row"), ("row", "column"), ("channel", "position")]
GATES = [*((kind,) for kind in KINDS), *PAIRS]


def a_map(size: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    x = (3 * torch.randn(size) + 1).to(dtype)
    return x.contiguous(memory_format=FORMATS[layout])


def near(found: Tensor, expected: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """To 1e-5 of the largest value in float32, to bfloat16's rounding in bfloat16."""
    bound = 1e-5 if dtype == torch.float32 else 2**-7
    assert found.shape == expected.shape
    scale = expected.abs().max().clamp(min=1e-30)
    assert ((found.double() - expected).abs().max() / scale).item() < bound


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_means_are_those_of_float64(
    size: tuple[int, int, int, int], layout: str, dtype: torch.dtype
) -> None:
    x = a_map(size, layout, dtype)
    assert takes(x)
    exact = x.double()
    rows, columns = ops.strip_means(x)
    near(rows, exact.sum(3) / size[3], dtype)
    near(columns, exact.sum(2) / size[2], dtype)
    near(ops.global_mean(x), exact.sum((2, 3)) / (size[2] * size[3]), dtype)


@pytest.fixture
def even_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels also where PyTorch's operators are as fast."""
    for name in ("apply_gates", "global_mean"):
        monkeypatch.setattr(sys.modules[f"convattn.ops.{name}.op"], "SMALL", 0)


@needs_kernels
@pytest.mark.usefixtures("even_the_smallest")
@pytest.mark.parametrize("kinds", GATES, ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gates_and_their_gradients_are_those_of_float64(
    size: tuple[int, int, int, int], layout: str, dtype: torch.dtype, kinds: tuple[str, ...]
) -> None:
    x = a_map(size, layout, dtype).requires_grad_()
    gates = tuple(torch.randn(KINDS[k](*size)).to(dtype).requires_grad_() for k in kinds)
    dy = torch.randn(size).to(dtype)
    y = ops.apply_gates(x, gates)
    exact = [t.detach().double().requires_grad_() for t in (x, *gates)]
    product = exact[0]
    for gate in exact[1:]:
        product = product * gate
    near(y, product, dtype)
    assert y.stride() == x.stride()
    if min(size[1:]) > 1:  # otherwise a kind of gate looks like another
        assert type(y.grad_fn).__name__ == "_ApplyGatesBackward"
    found = torch.autograd.grad(y, [x, *gates], dy)
    for one, other in zip(found, torch.autograd.grad(product, exact, dy.double()), strict=True):
        near(one, other, dtype)
    if dtype == torch.float32:
        with ops.reference_only():
            assert torch.equal(y, ops.apply_gates(x, gates))
        with torch.no_grad():
            assert torch.equal(y, ops.apply_gates(x, gates))


@needs_kernels
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", [(3, 96, 184, 96), (3, 99, 178, 97)], ids=str)
def test_a_map_that_no_cache_holds(
    size: tuple[int, int, int, int], layout: str, dtype: torch.dtype, kinds: tuple[str, str]
) -> None:
    if dtype == torch.bfloat16:
        size = (2 * size[0], *size[1:])  # 20 MB
    x = a_map(size, layout, dtype)
    a, b = (torch.randn(KINDS[kind](*size)).to(dtype) for kind in kinds)
    assert torch.equal(ops.apply_gates(x, (a, b)), (x.float() * a.float() * b.float()).to(dtype))


@needs_kernels
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, 1e4), (1e-8, 0.0), (1e8, 0.0), (1e-41, 0.0)], ids=str
)
def test_hard_numbers(layout: str, scale: float, shift: float) -> None:
    x = (torch.randn(2, 20, 70, 50) * scale + shift).contiguous(memory_format=FORMATS[layout])
    exact = x.double()
    rows, columns = ops.strip_means(x)
    for found, sums in (
        (rows, exact.mean(3)), (columns, exact.mean(2)), (ops.global_mean(x), exact.mean((2, 3)))
    ):  # fmt: skip
        # relative to the values that are summed: their sum may cancel
        error = (found.double() - sums).abs().max() / exact.abs().max()
        assert error.item() < (1e-6 if scale > 1e-40 else 1e-3)  # a denormal has few digits


@needs_kernels
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_spreads_as_in_pytorch(layout: str, value: float) -> None:
    x = a_map((2, 18, 9, 21), layout)
    x[0, 3, 2, 20], x[1, 17, 8, 0] = value, value
    gates = (torch.rand(2, 18, 1, 21), torch.rand(2, 18, 9, 1))
    gates[0][0, 1, 0, 4] = value
    for operator in (ops.strip_means, ops.global_mean, lambda m: ops.apply_gates(m, gates)):
        found = operator(x)
        with ops.reference_only():
            expected = operator(x)
        pairs = ((t,) if isinstance(t, Tensor) else t for t in (found, expected))
        for one, other in zip(*pairs, strict=True):
            assert torch.equal(one.isnan(), other.isnan())
            assert torch.equal(one.isinf(), other.isinf())


@needs_kernels
@pytest.mark.parametrize("layout", FORMATS)
def test_nothing_outside_of_the_map_is_used(layout: str) -> None:
    for size in [(1, 3, 5, 7), (2, 5, 3, 3), (1, 20, 2, 18)]:
        n, c, h, w = size
        values = torch.full((n * c * h * w + 64,), float("nan"))
        x = torch.empty_like(a_map(size, layout))
        x = values[:-64].as_strided(size, x.stride())
        x.copy_(torch.randn(size))
        gates = (torch.rand(n, c, 1, w), torch.rand(n, c, h, 1))
        assert takes(x)
        assert all(t.isfinite().all() for t in (*ops.strip_means(x), ops.global_mean(x)))
        assert ops.apply_gates(x, gates).isfinite().all()


@needs_kernels
@pytest.mark.parametrize("layout", FORMATS)
def test_the_same_bits_again_and_with_another_number_of_threads(layout: str) -> None:
    x = a_map((3, 40, 31, 29), layout).requires_grad_()
    block = create_block("ca", 40).train()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 1, 2):
            torch.set_num_threads(count)
            means = [t.detach() for t in ops.strip_means(x)]
            results.append([*means, *torch.autograd.grad(block(x).square().sum(), x)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(results[0][:2], results[2][:2], strict=True))


def test_what_the_kernels_do_not_take_goes_to_the_reference() -> None:
    x = torch.randn(2, 4, 6, 6)
    for other in (
        x.double(), x.half(), x[..., ::2], x.transpose(0, 1), x[:0], x.flatten(2), x.to("meta"),
        torch.nn.Parameter(x), x.expand(3, 2, 4, 6, 6)[0, :, :, :, :3],
    ):  # fmt: skip
        assert not takes(other)
        if other.dim() == 4 and other.numel():
            assert ops.strip_means(other)[0].shape == other.shape[:3]
    gates = (torch.rand(4, 1, 1), torch.rand(2, 4, 6, 6), torch.rand(1, 4, 1, 1))
    assert torch.equal(ops.apply_gates(x, gates), x * gates[0] * gates[1] * gates[2])


@pytest.mark.filterwarnings("ignore:.*is deprecated. Please switch:FutureWarning")
def test_transforms_see_operators_that_they_know() -> None:
    x, gate = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 1)
    mapped = torch.func.vmap(lambda m: ops.global_mean(m[None])[0])(x)
    torch.testing.assert_close(mapped, x.mean((2, 3)))
    _, tangent = torch.func.jvp(lambda m: ops.apply_gates(m, (gate,)), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, gate.expand_as(x))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        rows = torch.autograd.forward_ad.unpack_dual(ops.strip_means(dual)[0]).tangent
    torch.testing.assert_close(rows, torch.ones(2, 3, 4))


# PyTorch's own, at its first forward derivative
@pytest.mark.filterwarnings("ignore:.*is deprecated. Please switch:FutureWarning")
@pytest.mark.parametrize("name", ["ca", "se", "cbam", "ela"])
def test_vmap_and_forward_derivatives_of_blocks(name: str) -> None:
    block = create_block(name, 16).eval()
    x, v = torch.randn(3, 2, 16, 6, 5), torch.randn(3, 2, 16, 6, 5)
    mapped = torch.func.vmap(block)(x)
    torch.testing.assert_close(mapped, torch.stack([block(one) for one in x]))
    y, tangent = torch.func.jvp(block, (x[0],), (v[0],))
    torch.testing.assert_close(y, block(x[0]))
    # <J v, u> = <v, J^T u>, the right side by the operators' backward
    wide, u = x[0].clone().requires_grad_(), torch.randn_like(y)
    (transposed,) = torch.autograd.grad(block(wide), wide, u)
    torch.testing.assert_close((tangent * u).sum(), (v[0] * transposed).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is deprecated. Please switch:FutureWarning")
@pytest.mark.parametrize("name", ["ca", "se", "cbam"])
def test_exports_hold_standard_operators_alone(name: str) -> None:
    block = create_block(name, 32).eval()
    x = torch.randn(2, 32, 6, 5)
    exported = torch.export.export(block, (x,))
    assert not [n for n in exported.graph.nodes if "convattn" in str(n.target)]
    assert "convattn::" not in str(torch.jit.trace(block, x).inlined_graph)


@needs_kernels
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # opcheck's own
def test_the_operators_are_registered_as_pytorch_wants() -> None:
    x = a_map((2, 3, 5, 4), "channels_last").detach().requires_grad_()
    column, row = torch.rand(2, 3, 1, 4, requires_grad=True), torch.rand(2, 3, 5, 1)
    space = torch.ops.convattn
    torch.library.opcheck(space.global_mean.default, (x,))
    torch.library.opcheck(space.strip_means.default, (x,))
    torch.library.opcheck(space.apply_gates.default, (x, column, row))
    with torch.no_grad():
        torch.library.opcheck(space.gate_gradients.default, (x.detach(), x.detach(), row))
        torch.library.opcheck(space.map_gradient.default, (x.detach(), row))
        x, column = x.detach(), column.detach()
        torch.library.opcheck(space.gate_gradients.default, (x, x, column, row))
        pooled = (None, row, column)
        torch.library.opcheck(space.map_gradient.default, (x, column, row, *pooled))


@needs_kernels
@pytest.mark.usefixtures("even_the_smallest")
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", ["ca", "se", "eca", "cbam", "ela", "bam", "scse", "simple_ca"])
def test_a_training_step_is_that_of_pytorchs_operators(name: str, layout: str) -> None:
    x = a_map((3, 64, 11, 9), layout).requires_grad_()
    dy = torch.randn(3, 64, 11, 9)
    found = []
    for reference in (False, True):
        torch.manual_seed(0)
        block = create_block(name, 64).train()
        if reference:
            with ops.reference_only():
                block(x).backward(dy)
        else:
            block(x).backward(dy)
        gradients = [p.grad for p in block.parameters()]
        found.append([x.grad, *gradients, *block.buffers()])
        x.grad = None
    scale = max(t.abs().max() for t in found[1][1:-3]) if len(found[1]) > 4 else torch.tensor(1.0)
    for one, other in zip(*found, strict=True):
        # the gradient of a bias that a norm subtracts again is zero: compare to the others
        assert (one - other).abs().max() <= 1e-5 * torch.maximum(other.abs().max().float(), scale)


@needs_kernels
def test_the_gradient_is_taken_twice_and_of_parts() -> None:
    x = torch.randn(2, 16, 6, 5, requires_grad=True)
    block = create_block("ca", 16).train()

    def penalty() -> Tensor:
        (dx,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), x)[0]

    found = penalty()
    with ops.reference_only():
        torch.testing.assert_close(found, penalty(), rtol=1e-4, atol=1e-4)
    y = block(x).sum()
    (alone,) = torch.autograd.grad(y, [block.conv_h.weight], retain_graph=True)
    twice = [torch.autograd.grad(y, [x, block.conv_h.weight], retain_graph=True) for _ in range(2)]
    assert torch.equal(alone, twice[0][1])
    assert torch.equal(twice[0][0], twice[1][0])


@needs_kernels
@pytest.mark.parametrize("name", ["ese", "se", "ela", "strip"])
def test_a_pass_to_the_parameters_leaves_nothing_for_the_next(name: str) -> None:
    block = create_block(name, 32).train()
    x = torch.randn(2, 32, 40, 50, requires_grad=True)
    kept: list[Tensor] = []
    for layer in block.modules():  # their outputs, behind the pooling
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)):
            layer.register_forward_hook(lambda module, given, made: kept.append(made))
    y = block(x)
    (wanted,) = torch.autograd.grad(kept[0].sum(), x, retain_graph=True)
    torch.autograd.grad(y.sum(), [*block.parameters()], retain_graph=True, allow_unused=True)
    (found,) = torch.autograd.grad(kept[0].sum(), x, retain_graph=True)
    assert torch.equal(found, wanted)


@needs_kernels
def test_only_the_map_and_small_values_are_kept_for_backward() -> None:
    x = torch.randn(2, 64, 40, 40, requires_grad=True)
    block = create_block("ca", 64).train()
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.data_ptr()] = t.numel()
        return t

    def values() -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = block(x)
        del y
        return sum(kept.values())

    mine = values()
    with ops.reference_only():
        theirs = values()
    assert mine < 1.4 * x.numel()
    assert mine < theirs


@needs_kernels
def test_compiled_without_a_break_for_any_size() -> None:
    block = create_block("ca", 16).eval()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((2, 16, 7, 9), (3, 16, 12, 5)):
        x = torch.randn(size)
        torch.testing.assert_close(compiled(x), block(x))


WITH_OPS = (
    "import torch, convattn\nfrom convattn import ops\n"
    "print(convattn.create_block('ca', 8)(torch.ones(2, 8, 3, 3)).shape[1], ops.kernels())"
)


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ("reference", "PyTorch's own operators: CONVATTN_OPS=reference"),
        pytest.param("baseline", "compiled for the CPU (baseline)", marks=needs_kernels),
        pytest.param("mmx", "PyTorch's own operators: CONVATTN_OPS=mmx", marks=needs_kernels),
    ],
)
def test_other_kernels_can_be_wanted(wanted: str, live: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_OPS],
        capture_output=True, text=True, check=True, env={**os.environ, "CONVATTN_OPS": wanted},
    )  # fmt: skip
    assert done.stdout.startswith(f"8 {live}")


@needs_kernels
@pytest.mark.long
def test_the_kernels_for_any_processor_compute_the_same() -> None:
    files = ("test_operators.py", "test_whole_blocks.py", "test_training_steps.py")
    paths = (str(Path(__file__).with_name(file)) for file in files)
    run_tests("-k", "float64", *paths, CONVATTN_OPS="baseline")


@needs_kernels
def test_wrong_arguments_of_the_operators_themselves_are_refused() -> None:
    x, gate = torch.randn(2, 4, 6, 6), torch.rand(2, 4, 6, 1)
    for call in (
        lambda: torch.ops.convattn.strip_means(x[..., ::2]),
        lambda: torch.ops.convattn.global_mean(x.double()),
        lambda: torch.ops.convattn.apply_gates(x, gate[:1]),
        lambda: torch.ops.convattn.apply_gates(x, gate[:, :, :3]),
        lambda: torch.ops.convattn.gate_gradients(x[:1], x, gate),
        lambda: torch.ops.convattn.map_gradient(x, gate, row=gate),
    ):
        with pytest.raises(RuntimeError, match="convattn operators"):
            call()


def test_doctor_says_which_operators_are_live() -> None:
    report = doctor(torch.nn.Sequential(create_block("se", 16)), input_size=(2, 16, 8, 8))
    assert report.operators == ops.kernels()
    assert report.operators in str(report).replace("\n", " ")


def test_a_pair_without_a_kernel_is_computed_all_the_same() -> None:
    x = torch.randn(2, 4, 6, 5)
    for first, second in itertools.product(KINDS, KINDS):
        gates = (torch.rand(KINDS[first](*x.shape)), torch.rand(KINDS[second](*x.shape)))
        assert torch.equal(apply_gates(x, gates), x * gates[0] * gates[1])


class _Marked(torch.autograd.Function):
    """x, whose graph holds an object until it is freed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mark: object) -> Tensor:
        ctx.mark = mark
        return x.clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy, None


@needs_kernels
@pytest.mark.parametrize("name", ["ca", "se", "cbam", "eca", "simple_ca"])
@pytest.mark.parametrize("backward", [True, False])
def test_the_graph_of_a_step_is_freed(name: str, backward: bool) -> None:
    """Without the garbage collector, or what a training holds would grow from step to step."""
    block = create_block(name, 16).train()
    leaf = torch.randn(2, 16, 48, 48, requires_grad=True)  # large enough for the kernels
    mark = threading.Event()  # any object that can be referred to weakly
    kept = weakref.ref(mark)
    gc.disable()
    try:
        y = block(_Marked.apply(leaf, mark))
        if backward:
            y.sum().backward()
        del y, mark
        assert kept() is None
    finally:
        gc.enable()


@needs_kernels
@pytest.mark.parametrize("size", [(2, 8, 1, 1), (2, 8, 1, 5), (2, 8, 5, 1), (2, 1, 1, 4)], ids=str)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_pair_of_gates_is_known_on_one_row_or_column(
    pair: tuple[str, str], size: tuple[int, int, int, int]
) -> None:
    x, dy = torch.randn(size), torch.randn(size)
    a, b = (torch.rand(KINDS[kind](*size)) for kind in pair)
    near(torch.ops.convattn.apply_gates(x, a, b), x.double() * a * b)
    da, db = torch.ops.convattn.gate_gradients(dy, x, a, b)
    near(da, (dy.double() * x * b).sum_to_size(a.shape))
    near(db, (dy.double() * x * a).sum_to_size(b.shape))


@needs_kernels
def test_another_pair_of_gates_is_refused() -> None:
    x = torch.randn(2, 8, 4, 5)
    a, b = torch.rand(2, 8, 1, 1), torch.rand(2, 8, 4, 1)
    for call in (
        lambda: torch.ops.convattn.apply_gates(x, a, b),
        lambda: torch.ops.convattn.gate_gradients(x, x, a, b),
    ):
        with pytest.raises(RuntimeError, match="two gates are by row and by column"):
            call()
