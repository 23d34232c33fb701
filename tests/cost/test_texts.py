"""Counts as text: both units, and a table that says its convention."""

from __future__ import annotations

import pytest

from convattn import create_block, create_model
from convattn.cost import cost, format_count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (25557112, "25.56 M (10^6) = 24.37 Mi (2^20)"),
        (3_950_648, "3.95 M (10^6) = 3.77 Mi (2^20)"),
        (4_089_184_256, "4.09 G (10^9) = 3.81 Gi (2^30)"),
        (1000, "1.00 K (10^3) = 0.98 Ki (2^10)"),
        (999_999, "1.00 M (10^6) = 0.95 Mi (2^20)"),
        (999, "999"),
        (0, "0"),
    ],
)
def test_format_count(count: int, text: str) -> None:
    assert format_count(count) == text


def test_table_states_convention_totals_and_what_is_left_out() -> None:
    text = str(cost(create_model("mobilenet_v2", attention="ca"), (1, 3, 224, 224)))
    for part in ("conv+linear", "3,950,648", "306,666,368", "10^6", "2^20", "batch_norm x68"):
        assert part in text
    assert "for one sample" in text
    line = next(line for line in text.splitlines() if "blocks.1.after_depthwise" in line)
    assert all(part in line for part in ("CA", "1x96x56x56", "2,520", "172,032"))
    assert "ReLU6" not in text
    assert "layers without parameters and MACs left out" in text


def test_inside_of_blocks_can_be_shown() -> None:
    result = cost(create_block("cbam", 32), (1, 32, 8, 8))
    assert [row.type for row in result.per_module()] == ["CBAM"]
    assert {"fc1", "fc2", "conv", "bn"} <= {r.path for r in result.per_module(inside_blocks=True)}
    assert result.as_table().row_count == 1
    assert result.as_table(inside_blocks=True).row_count == 4
