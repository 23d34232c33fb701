"""What attention adds: beside the plain network, and block by block."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from convattn import create_model
from convattn.cost import cost
from convattn.cost.marginal import block_table, marginal_table, measure_blocks, measure_pair

SIZE = (2, 3, 64, 64)


def shown(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=100, color_system=None).print(table)
    return text.getvalue()


@pytest.fixture(scope="module")
def nets() -> list[object]:
    small = {"width_mult": 0.25, "num_classes": 10}
    return [create_model("mobilenet_v2", attention=name, **small) for name in ("none", "ca")]


def test_the_difference_is_the_blocks(nets: list) -> None:
    plain, attended = (cost(net, SIZE) for net in nets)
    rows = [row for row in attended.per_module() if row.type == "CA"]
    text = shown(marginal_table(plain, attended, titles=("plain", "with ca")))
    assert f"{sum(r.parameters for r in rows):+,}" in text
    assert f"{sum(r.macs for r in rows):+,}" in text
    assert f"{plain.parameters:,}" in text
    assert "2^20" in text
    blocks = shown(block_table(attended))
    assert f"{sum(r.parameters for r in rows):,}" in blocks.splitlines()[-1]
    assert all(row.path in blocks and f"{row.macs:,}" in blocks for row in rows)


def test_blocks_are_measured_at_the_size_they_meet(nets: list) -> None:
    counted = cost(nets[1], SIZE)
    assert counted.block_inputs["blocks.1.after_depthwise"] == (2, 48, 16, 16)
    measured = measure_blocks(nets[1], counted, seconds=0.001)
    assert set(measured) == set(counted.blocks)
    latency, memory = measured["blocks.1.after_depthwise"]
    assert latency.batch == memory.batch == 2
    assert memory.inference >= 2 * 48 * 16 * 16 * 4
    assert "ms" in shown(block_table(counted, measured)).splitlines()[1]


def test_measured_rows_of_the_pair(nets: list) -> None:
    pair = measure_pair(*nets, SIZE)
    text = shown(marginal_table(*(cost(net, SIZE) for net in nets), pair))
    assert "latency, median" in text
    assert "peak memory, training" in text
    assert pair[1][1].training > pair[0][1].training
