"""Double attention: what its softmaxes promise, and its cost."""

from __future__ import annotations

import torch

from convattn.blocks.a2 import A2
from convattn.cost import cost


def test_equations() -> None:
    block = A2(4, hidden=3, maps=2).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)

    def conv(layer: torch.nn.Conv2d, z: torch.Tensor) -> torch.Tensor:
        mixed = torch.einsum("oc,ncp->nop", layer.weight[..., 0, 0], z)
        return mixed + layer.bias[:, None]

    flat = x.flatten(2)
    a = conv(block.gathered, flat)
    b, v = conv(block.gather, flat).exp(), conv(block.distribute, flat).exp()
    b, v = b / b.sum(2, keepdim=True), v / v.sum(1, keepdim=True)
    z = torch.einsum("nmp,nkp,nkq->nmq", a, b, v)
    expected = x + conv(block.out, z).view(2, 4, 3, 5)
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_one_map_gives_every_position_the_same() -> None:
    added = A2(4, maps=1, residual=False)(torch.randn(2, 4, 5, 6)).flatten(2)
    torch.testing.assert_close(added, added[..., :1].expand_as(added))


def test_cost() -> None:
    c, m, n, positions = 16, 6, 4, 30
    counted = cost(A2(c, hidden=m, maps=n), (1, c, 6, 5))
    assert counted.parameters == 2 * c * m + 2 * c * n + m + 2 * n + c
    assert counted.macs == positions * (2 * c * m + 2 * c * n + 2 * m * n)
