"""Criss-cross attention in loops, how far its passes reach, and its cost."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convattn.blocks.cca import CCA
from convattn.cost import cost


def one_pass(block: CCA, x: Tensor) -> Tensor:
    def conv(layer: torch.nn.Conv2d) -> Tensor:
        mixed = torch.einsum("oc,nchw->nohw", layer.weight[..., 0, 0], x)
        return mixed + layer.bias[:, None, None]

    q, k, v = conv(block.query), conv(block.key), conv(block.value)
    y = x.clone()
    for n in range(x.shape[0]):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                seen = {(i, column) for i in range(x.shape[2])}
                seen |= {(row, j) for j in range(x.shape[3])}
                places = sorted(seen)
                logits = torch.stack(
                    [(q[n, :, row, column] * k[n, :, i, j]).sum() for i, j in places]
                )
                total = sum(
                    w * v[n, :, i, j] for w, (i, j) in zip(logits.softmax(0), places, strict=True)
                )
                y[n, :, row, column] += block.gamma[0] * total
    return y


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 4), (1, 4), (3, 1), (1, 1)])
def test_equations(passes: int, size: tuple[int, int]) -> None:
    block = CCA(4, reduction=2, passes=passes).double()
    with torch.no_grad():
        block.gamma.fill_(0.7)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    expected = x
    for _ in range(passes):
        expected = one_pass(block, expected)
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def test_two_passes_reach_every_position() -> None:
    for passes, reached in ((1, 4 + 5 - 1), (2, 20)):
        block, x = CCA(8, passes=passes), torch.randn(1, 8, 4, 5, requires_grad=True)
        with torch.no_grad():
            block.gamma.fill_(1)
        (gradient,) = torch.autograd.grad(block(x)[0, :, 1, 2].sum(), x)
        assert (gradient[0].abs().sum(0) > 0).sum() == reached


def test_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 4, 3)
    assert torch.equal(CCA(8)(x), x)


def test_no_tensor_grows_with_the_square_of_positions() -> None:
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with Watch(), torch.no_grad():
        CCA(8)(torch.randn(1, 8, 32, 32))
    assert largest <= 32 * 32 * 64


@pytest.mark.parametrize("passes", [1, 2])
def test_cost(passes: int) -> None:
    c, m, h, w = 64, 8, 6, 5
    counted = cost(CCA(c, passes=passes), (1, c, h, w))
    assert counted.parameters == 5201
    assert counted.macs == passes * h * w * (c * c + 2 * c * m + (h + w) * (c + m))
