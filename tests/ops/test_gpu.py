"""The operators on a GPU against their formulas in float64 and PyTorch's own operators."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from convattn import ops
from convattn.blocks import create_block
from convattn.ops._library import takes

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU on this machine"
)
DEVICE = "cuda"
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}
SIZES = [(1, 1, 1, 1), (2, 96, 112, 112), (3, 17, 13, 5), (16, 960, 7, 7), (1, 33, 33, 65)]


def a_map(size: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    x = (3 * torch.randn(size) + 1).to(DEVICE, dtype)
    return x.contiguous(memory_format=FORMATS[layout])


def near(found: Tensor, expected: Tensor, bound: float) -> None:
    """To a part of the largest value."""
    assert found.shape == expected.shape
    scale = expected.abs().max().clamp(min=1e-30)
    assert ((found.double() - expected).abs().max() / scale).item() <= bound


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_operators_are_those_of_float64(
    size: tuple[int, ...], layout: str, dtype: torch.dtype
) -> None:
    n, c, h, w = size
    x, dy, bound = a_map(size, layout, dtype), a_map(size, layout, dtype), DTYPES[dtype]
    if not takes(x):
        pytest.skip(f"no kernels for {dtype} on this GPU: {ops.kernels()}")
    exact, space = x.double(), torch.ops.convattn
    rows, columns = ops.strip_means(x)
    near(rows, exact.mean(3), bound)
    near(columns, exact.mean(2), bound)
    near(ops.global_mean(x), exact.mean((2, 3)), bound)
    for shapes in (((n, c, 1, w), (n, c, h, 1)), ((n, c, 1, 1), (n, 1, h, w))):
        a, b = (torch.randn(shape).to(DEVICE, dtype) for shape in shapes)
        near(space.apply_gates(x, a, b), exact * a.double() * b.double(), bound)
        through = dy.double() * exact
        da, db = space.gate_gradients(dy, x, a, b)
        near(da, (through * b.double()).sum_to_size(a.shape), bound)
        near(db, (through * a.double()).sum_to_size(b.shape), bound)
        near(space.map_gradient(dy, a, b), dy.double() * a.double() * b.double(), bound)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", ["ca", "se", "cbam", "ela"])
def test_a_training_step_is_that_of_pytorchs_operators(name: str, layout: str) -> None:
    x = a_map((4, 64, 40, 24), layout).requires_grad_()
    block, dy = create_block(name, 64).to(DEVICE).train(), torch.randn_like(x)
    exact = copy.deepcopy(block).double()
    y = block(x)
    found = torch.autograd.grad(y, [x, *block.parameters()], dy)
    wide = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(exact(wide), [wide, *exact.parameters()], dy.double())
    scale = max(t.abs().max().item() for t in expected[1:])
    near(found[0], expected[0], 1e-4)
    for one, other in zip(found[1:], expected[1:], strict=True):
        # the gradient of a bias that a norm subtracts again is zero: compare to the others
        assert (one.double() - other).abs().max().item() <= 1e-4 * scale


@pytest.mark.parametrize("layout", FORMATS)
def test_mixed_precision(layout: str) -> None:
    x = a_map((4, 64, 40, 24), layout, torch.float16).requires_grad_()
    block = create_block("ca", 64).to(DEVICE).train()
    found = []
    for reference in (False, True):
        with torch.autocast(DEVICE, torch.float16):
            if reference:
                with ops.reference_only():
                    y = block(x)
            else:
                y = block(x)
        assert y.dtype == torch.float16
        found.append(torch.autograd.grad(y.float().sum(), x)[0])
    near(found[0], found[1].double(), 2**-7)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("layout", FORMATS)
def test_the_same_bits_again(layout: str) -> None:
    x, gates = a_map((2, 40, 131, 129), layout), [torch.rand(2, 40, 1, 129, device=DEVICE)]
    gates.append(torch.rand(2, 40, 131, 1, device=DEVICE))

    def results() -> list[Tensor]:
        space = torch.ops.convattn
        return [*space.strip_means(x), space.global_mean(x), *space.gate_gradients(x, x, *gates)]

    assert all(torch.equal(a, b) for a, b in zip(results(), results(), strict=True))


def test_compiled_without_a_break() -> None:
    block = create_block("ca", 32).to(DEVICE).train()
    x = a_map((2, 32, 24, 20), "contiguous").requires_grad_()
    y = torch.compile(block, fullgraph=True)(x)
    found = torch.autograd.grad(y.square().sum(), x)[0]
    near(found, torch.autograd.grad(block(x).square().sum(), x)[0].double(), 1e-5)


def test_synchronised_norm_keeps_its_statistics() -> None:
    plain = create_block("ca", 32).to(DEVICE).train()
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    x = a_map((4, 32, 9, 7), "contiguous")
    torch.testing.assert_close(synchronised(x), plain(x))
    for one, other in zip(synchronised.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_map_of_more_values_than_32_bits_count() -> None:
    size = (1, 2, 1 << 15, (1 << 15) + 8)  # channels_last: one matrix, places of 64 bits
    if torch.cuda.mem_get_info()[0] < 16 << 30:
        pytest.skip("needs 16 GB of free memory on the GPU")
    for layout in FORMATS.values():
        x = torch.zeros(size, dtype=torch.float16, device=DEVICE).to(memory_format=layout)
        x[0, 1, -1, :] = 2
        rows, columns = ops.strip_means(x)
        assert rows[0, 1, -1] == 2
        assert rows.sum() == 2
        assert torch.equal(columns[0, 1], torch.full_like(columns[0, 1], 2.0 / size[2]))


def test_which_path_is_live_is_said() -> None:
    assert torch.cuda.get_device_name(0) in ops.kernels()
