"""Mixed Pooling: the matrices against torch's poolings and interpolations, and its cost."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from convattn.blocks._pooled import adaptive_weights, linear_weights, resample
from convattn.blocks.mpm import MPM
from convattn.core.errors import ArgumentError, InputError
from convattn.cost import cost


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 20, 33])
@pytest.mark.parametrize("out", [1, 2, 5, 12, 20])
def test_matrices(size: int, out: int) -> None:
    x = torch.randn(2, 3, size, size + 2, dtype=torch.float64)
    down = [adaptive_weights(out, length, x) for length in x.shape[2:]]
    torch.testing.assert_close(resample(x, *down), F.adaptive_avg_pool2d(x, out))
    up = [linear_weights(out, length, x) for length in x.shape[2:]]
    expected = F.interpolate(x, (out, out), mode="bilinear", align_corners=True)
    torch.testing.assert_close(resample(x, *up), expected)


def test_output_is_rectified_sum() -> None:
    block = MPM(8, pools=(3, 2)).double().eval()
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x), (x + block.context(x)).clamp(min=0))


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="pools"):
        MPM(8, pools=(3,))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="pools"):
        MPM(8, pools=(3, 0))
    with pytest.raises(InputError, match="means along H"):
        MPM(8)(torch.randn(1, 8, 1, 4))


def test_cost() -> None:
    c, m, h, w = 16, 4, 9, 7
    counted = cost(MPM(c), (1, c, h, w))
    assert counted.parameters == 4 * c * m + 51 * m * m + 18 * m + 2 * c
    macs = 4 * c * m * h * w + 27 * m * m * h * w + 3 * m * m * (h + w)
    for p in (20, 12):
        macs += 9 * m * m * p * p + m * (2 * p * h * w + p * p * (h + w))
    assert counted.macs == macs
