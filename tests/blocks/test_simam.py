"""SimAM against its equations, and its edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from convattn.blocks.simam import SimAM
from convattn.core.errors import ArgumentError


@pytest.mark.parametrize("axes", [(7,), (3, 4), (2, 3, 2)])
def test_equations(axes: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *axes, dtype=torch.float64)
    y = SimAM(3, e_lambda=0.1, ndim=len(axes))(x)
    for n in range(2):
        for c in range(3):
            values = x[n, c].flatten().tolist()
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
            for v, out in zip(values, y[n, c].flatten().tolist(), strict=True):
                energy = (v - mean) ** 2 / (4 * (variance + 0.1)) + 0.5
                assert out == pytest.approx(v / (1 + math.exp(-energy)), rel=1e-12)


def test_one_position_is_as_a_constant_map() -> None:
    x = torch.randn(2, 5, 1, 1)
    torch.testing.assert_close(SimAM(5)(x), x * torch.sigmoid(torch.tensor(0.5)))


def test_any_number_of_channels() -> None:
    block = SimAM(None)
    assert block(torch.randn(1, 3, 4, 4)).shape[1] == 3
    assert block(torch.randn(1, 5, 4, 4)).shape[1] == 5
    assert not [*block.parameters()]


def test_squares_do_not_overflow_in_float16() -> None:
    x = torch.tensor([-3e3, 3e3, 1.0]).half().expand(1, 2, 3)
    assert SimAM(2, ndim=1)(x).isfinite().all()


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "x", True])
def test_lambda_must_be_positive(value: Any) -> None:
    with pytest.raises(ArgumentError, match="e_lambda must be a positive number"):
        SimAM(4, e_lambda=value)
