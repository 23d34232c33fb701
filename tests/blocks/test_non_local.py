"""Non-local: each mode against its equation in loops, sub-sampling, scale, start, cost."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convattn.blocks.non_local import NonLocal
from convattn.cost import cost


def expected(block: NonLocal, x: Tensor) -> Tensor:
    """By the equations, position by position; the block is without norm."""
    keys = F.max_pool2d(x, 2) if block.subsample == "input" else x

    def conv(layer: nn.Module, z: Tensor) -> Tensor:
        layer = layer[0] if isinstance(layer, nn.Sequential) else layer
        mixed = torch.einsum("oc,nchw->nohw", layer.weight[..., 0, 0], z)
        return mixed + layer.bias[:, None, None]

    g = conv(block.g, keys)
    theta, phi = x, x
    if block.mode == "gaussian" and block.subsample != "none":
        phi = F.max_pool2d(x, 2)
    if block.mode != "gaussian":
        theta, phi = conv(block.theta, x), conv(block.phi, keys)
    if block.subsample == "embedding":
        g = F.max_pool2d(g, 2)
        phi = phi if block.mode == "gaussian" else F.max_pool2d(phi, 2)
    out = torch.zeros(*g.shape[:2], *x.shape[2:], dtype=x.dtype)
    for n in range(x.shape[0]):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                t, weights, values = theta[n, :, row, column], [], []
                for i in range(g.shape[2]):
                    for j in range(g.shape[3]):
                        p = phi[n, :, i, j]
                        if block.mode == "concatenation":
                            pair = (block.relation.weight[0] * torch.cat((t, p))).sum()
                            weights.append(max(0.0, pair.item()))
                        else:
                            weights.append((t * p).sum().item())
                        values.append(g[n, :, i, j])
                if block.mode == "embedded_gaussian":
                    weights = [w / math.sqrt(len(t)) for w in weights]
                if "gaussian" in block.mode:
                    exponentials = [math.exp(w) for w in weights]
                    weights = [e / sum(exponentials) for e in exponentials]
                else:
                    weights = [w / len(weights) for w in weights]
                total = sum(w * v for w, v in zip(weights, values, strict=True))
                out[n, :, row, column] = total
    return x + conv(block.out, out)


@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product", "concatenation"])
@pytest.mark.parametrize("subsample", ["input", "embedding", "none"])
def test_equations(mode: str, subsample: str) -> None:
    block = NonLocal(4, mode=mode, subsample=subsample, norm=False).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), expected(block, x), rtol=1e-11, atol=1e-11)


def test_three_axes_pool_the_last_two() -> None:
    pooled = NonLocal(2, ndim=3).pool(torch.arange(60.0).view(1, 1, 3, 5, 4))
    assert torch.equal(pooled, F.max_pool3d(torch.arange(60.0).view(1, 1, 3, 5, 4), (1, 2, 2)))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1)])
def test_axes_with_one_position(size: tuple[int, int]) -> None:
    assert NonLocal(4).eval()(torch.randn(1, 4, *size)).isfinite().all()


@pytest.mark.parametrize("norm", [True, False])
def test_starts_as_the_identity(norm: bool) -> None:
    x = torch.randn(2, 4, 6, 5)
    assert torch.equal(NonLocal(4, norm=norm)(x), x)


def test_cost() -> None:
    c, m, positions = 16, 8, 6 * 5
    counted = cost(NonLocal(c, subsample="none"), (1, c, 6, 5))
    assert counted.parameters == 4 * c * m + 3 * m + 3 * c
    assert counted.macs == 4 * c * m * positions + 2 * m * positions**2
    gaussian = cost(NonLocal(c, mode="gaussian"), (1, c, 6, 5)).parameters
    assert gaussian == 2 * c * m + m + 3 * c
    concatenation = cost(NonLocal(c, mode="concatenation"), (1, c, 6, 5)).parameters
    assert concatenation == counted.parameters + 2 * m
