"""Each published row against our network: equal to the last digit, or different as recorded."""

from __future__ import annotations

import collections
import importlib
import itertools
import json
from typing import Any

import pytest
import torch
from torch import nn

from convattn import create_model, published
from convattn.cli import main, parser
from convattn.core.errors import MissingExtraError
from convattn.tables import Published, Recomputed, recompute
from convattn.tables.recompute import STATUSES
from convattn.tables.report import reasons, summary

ROWS = [row for row in published() if row.network is not None]


def name(row: Published) -> str:
    return f"{row.paper}-{row.table}-{row.model}-{row.attention}".replace(" ", "_")


@pytest.mark.long  # one test: what is counted for a row is kept for those with the same network
def test_rows_are_what_their_records_say(subtests: pytest.Subtests) -> None:
    for row in ROWS:
        with subtests.test(name(row)):
            agrees(row, recompute(row))
    assert summary([recompute(row) for row in published()]) == (
        "244 rows of 14 papers: 94 reproduced, 18 explained, 28 size only, 41 differs, "
        "41 not built, 22 scores only"
    )


def agrees(row: Published, found: Recomputed) -> None:
    for printed, number in ((row.params, found.params), (row.macs, found.macs)):
        assert (number is None) == (printed is None or bool(printed.not_counted))
        if printed is None or number is None:
            continue
        if printed.differs:
            assert number.adjusted != printed.text
            assert number.reason == printed.differs
        else:
            assert number.adjusted == printed.text, f"{number.count:,}"
    assert not found.contradicts


def test_a_network_that_needs_a_missing_library_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(key: str) -> nn.Module:
        raise MissingExtraError('this needs torchvision. pip install "convattn[train]"')

    module = importlib.import_module("convattn.tables.recompute")  # `recompute` is the function
    monkeypatch.setattr(module, "_built", missing)
    found = recompute(ROWS[0])
    assert found.status == "not built"
    assert "convattn[train]" in " ".join(reasons(found))
    assert found.as_dict()["recomputed"] == {"params": None, "macs": None}


def test_the_command_line_knows_every_status() -> None:
    assert parser.STATUSES == STATUSES


# ------------------------------------------------ what authors' tools did not see, from the maps

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
PLANES, SIDES = (64, 128, 256, 512), (56, 28, 14, 7)


def maps(depth: int, width: Any) -> list[tuple[int, int]]:
    """(C, positions) of a map in each residual block; C is `width` planes."""
    stages = zip(DEPTHS[depth], PLANES, SIDES, strict=True)
    return [(width * planes, side**2) for n, planes, side in stages for _ in range(n)]


def elements(depth: int, width: int) -> int:
    return sum(c * positions for c, positions in maps(depth, width))


ADJUSTED = {
    # CBAM's mean over positions is counted with its divisions, C of them
    ("eca", "ResNet-18", "CBAM"): -elements(18, 1) - sum(c for c, _ in maps(18, 1)),
    ("eca", "ResNet-34", "CBAM"): -elements(34, 1) - sum(c for c, _ in maps(34, 1)),
    ("eca", "MobileNetV2", "none"): -1280 * (49 + 1),
    ("eca", "ECA-MobileNet_v2", "ECA k13"): -1280 * (49 + 1),
    ("triplet", "ResNet-50", "SRM"): -elements(50, 4),
    ("triplet", "ResNet-101", "SRM"): -elements(101, 4),
    ("simam", "ResNet-18", "SimAM"): -elements(18, 1),  # behind the second convolution
    ("simam", "ResNet-34", "SimAM"): -elements(34, 1),
    ("simam", "ResNet-50", "SimAM"): -elements(50, 1),
    ("simam", "ResNet-101", "SimAM"): -elements(101, 1),
    ("sge", "ResNet-50", "SGE"): -64 * sum(n for _, n in maps(50, 4)),  # 64 groups
    ("sge", "ResNet-101", "SGE"): -64 * sum(n for _, n in maps(101, 4)),
    ("sge", "ResNet-50", "SK*"): -elements(50, 1),
    ("sge", "ResNet-101", "SK*"): -elements(101, 1),
    # behind the first three stages
    ("sge", "ResNet-50", "BAM"): -(256 * 56**2 + 512 * 28**2 + 1024 * 14**2),
    ("sge", "ResNet-101", "BAM"): -(256 * 56**2 + 512 * 28**2 + 1024 * 14**2),
}


@pytest.mark.parametrize("key", ADJUSTED, ids="-".join)
def test_adjustments_are_what_their_reasons_say(key: tuple[str, str, str]) -> None:
    rows = [row for row in ROWS if (row.paper, row.model, row.attention) == key]
    found = {row.macs.adjust[0] for row in rows if row.macs and row.macs.adjust[0]}
    assert found == {ADJUSTED[key]}


@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.35])
def test_d_li14_counted_one_more_per_channel_of_a_norm(width: float) -> None:
    with torch.device("meta"):
        net = create_model("mobilenet_v2", width_mult=width)
    channels = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    (row,) = published(paper="mobilenet_v2", model=f"MobileNetV2-{width}")
    assert row.macs is not None
    assert row.macs.adjust[0] == channels


# --------------------------------------------------------------------------- the command line


def test_published_stands_beside_recomputed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--paper", "ca", "--model", "mobilenet_v2"]) == 0
    out = capsys.readouterr().out
    assert "houqb/CoordAttention README.md" in out
    assert "conv+linear" in out
    assert "3.95M" in out
    assert "operations 210,495,232: differs" in out
    assert "none is measured here" in out


def test_as_json_with_exact_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--paper", "simam", "--json", "--status", "explained"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == ["ResNet-101", "MobileNetV2"]
    first = rows[0]
    assert first["published"] == {
        "params": "44.55M", "macs": "7.83G", "scores": {"top1": 78.65, "top5": 94.11}
    }  # fmt: skip
    assert first["recomputed"]["params"]["count"] == 44_549_160
    assert first["recomputed"]["macs"]["convention"] == "fvcore"
    assert "scores" not in first["recomputed"]


def test_a_row_that_is_not_as_recorded_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recomputed, "contradicts", True)
    assert main(["tables", "--paper", "cbam"]) == 1
    assert "not as recorded: README, ResNet-50, CBAM" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--paper", "ec"], "did you mean 'eca'"),
        (["--paper", "sa", "--model", "resnet18"], "no row with a network 'resnet18'"),
    ],
)
def test_wrong_filters_exit_with_2(
    arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tables", *arguments]) == 2
    assert match in capsys.readouterr().err


def test_ids_are_distinct_enough_to_find_a_row() -> None:
    counts = collections.Counter(map(name, itertools.chain(ROWS)))
    assert max(counts.values()) <= 2  # a table with two settings
