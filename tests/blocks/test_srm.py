"""SRM against its equations, and its edges."""

from __future__ import annotations

import math

import pytest
import torch

from convattn.blocks.srm import SRM
from convattn.core.errors import InputError


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_equations(variant: str) -> None:
    block = SRM(3, variant=variant).double().eval()
    with torch.no_grad():
        block.cfc.normal_()
        block.bn.bias.normal_()
        block.bn.running_mean.normal_()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = block(x)
    for n in range(2):
        for c in range(3):
            values = x[n, c].flatten().tolist()
            mean = sum(values) / 20
            squares = sum((v - mean) ** 2 for v in values)
            deviation = math.sqrt(squares / (19 if variant == "authors" else 20) + 1e-5)
            z = block.cfc[c, 0] * mean + block.cfc[c, 1] * deviation
            z = (z - block.bn.running_mean[c]) / math.sqrt(1 + 1e-5) + block.bn.bias[c]
            torch.testing.assert_close(y[n, c], x[n, c] * torch.sigmoid(z), rtol=1e-12, atol=1e-12)


def test_starts_at_one_half() -> None:
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(SRM(8).eval()(x), x / 2)


@pytest.mark.parametrize("variant", ["authors", "paper"])
def test_one_position_has_the_smallest_deviation(variant: str) -> None:
    styles = SRM(4, variant=variant)._styles(torch.ones(2, 4, 1, 1))
    torch.testing.assert_close(styles[..., 1], torch.full((2, 4), math.sqrt(1e-5)))


def test_one_image_in_training_is_refused() -> None:
    with pytest.raises(InputError, match="larger batch"):
        SRM(4).train()(torch.randn(1, 4, 5, 5))


def test_squares_do_not_overflow_in_float16() -> None:
    assert SRM(4).half()._styles(torch.tensor([-3e3, 3e3]).half().expand(1, 4, 2)).isfinite().all()


def test_parameters() -> None:
    assert sum(p.numel() for p in SRM(33).parameters()) == 4 * 33


def test_identity_start_keeps_style_weights_that_are_not_zero() -> None:
    """The norm learns nothing from zeros, the authors' start; any other weights stay."""
    fresh, trained = SRM(3), SRM(3)
    torch.nn.init.normal_(trained.cfc)
    before = trained.cfc.detach().clone()
    for block in (fresh, trained):
        block.start_as_identity()
    assert torch.equal(fresh.cfc, torch.ones(3, 2))
    assert torch.equal(trained.cfc, before)
