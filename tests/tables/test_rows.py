"""The published rows: all of them, as they were read, and found by paper and network."""

from __future__ import annotations

import collections
import json

import pytest

from convattn import published
from convattn.core.errors import UnknownNameError
from convattn.cost import CONVENTIONS
from convattn.tables import PAPERS, Print
from oracles import SHARED

REFERENCE = SHARED / "reference" / "published.json"


def test_every_paper_has_its_rows() -> None:
    counts = collections.Counter(row.paper for row in published())
    assert list(counts) == list(PAPERS)
    assert dict(counts) == {
        "ca": 65, "eca": 88, "triplet": 34, "cbam": 2, "ema": 14, "epsanet": 4, "fcanet": 4,
        "gsop": 2, "mobilenet_v2": 4, "mobilenext": 5, "sa": 2, "scnet": 2, "sge": 12, "simam": 6,
    }  # fmt: skip
    assert sum(len(row.scores) for row in published()) == 586


@pytest.mark.skipif(not REFERENCE.is_file(), reason="../shared/reference is not there to compare")
def test_rows_equal_the_list_they_were_read_into() -> None:
    theirs = collections.Counter(
        (r["table"], r["setting"], r["model"], r["attention"], r["params"], r["macs"], r["metric"],
         r["value"])
        for r in json.loads(REFERENCE.read_text())["rows"]
    )  # fmt: skip
    ours = collections.Counter(
        (row.table, row.setting, row.model, row.attention, row.params and row.params.text,
         row.macs and row.macs.text, metric, value)
        for row in published() for metric, value in row.scores.items()
    )  # fmt: skip
    assert ours == theirs


def test_every_row_is_accounted_for() -> None:
    for row in published():
        where = f"{row.paper}, {row.table}, {row.model}, {row.attention}"
        assert row.source, where
        assert row.verified == (row.source != "recalled, not verified"), where
        printed = row.params is not None or row.macs is not None
        assert printed == (row.network is not None or bool(row.not_built)), where
        assert row.network is None or not row.not_built, where
        if row.macs is not None and row.network is not None:
            counted = row.macs.convention in CONVENTIONS
            assert counted != bool(row.macs.not_counted), where


@pytest.mark.parametrize(
    ("text", "facts", "count", "printed"),
    [
        # ECA's ResNet-50 in both units: BangguWu/ECANet issue 35
        ("24.37M", {"base": 1024}, 25_557_112, "24.37M"),
        ("25.56M", {"base": 1000}, 25_557_112, "25.56M"),
        ("4.089G", {"base": 1000}, 4_089_184_256, "4.089G"),
        ("310M", {"base": 1000, "step": 10_000_000}, 306_666_368, "310M"),
        ("300M", {"base": 1000, "step": 10_000_000}, 304_999_999, "300M"),
        ("3.504M", {"base": 1000, "rounding": "down"}, 3_504_872, "3.504M"),
        ("3.504M", {"base": 1000}, 3_504_872, "3.505M"),
        ("2.5M", {"base": 1000}, 2_450_000, "2.5M"),  # a tie goes up, as on paper
        ("kC", {"base": 1000, "value": 768}, 768, "kC"),
        ("kC", {"base": 1000, "value": 768}, 769, "769"),
    ],
)
def test_a_count_is_put_as_the_print(text: str, facts: dict, count: int, printed: str) -> None:
    assert Print(text, **facts).as_printed(count) == printed


def test_rows_are_found_by_paper_and_network() -> None:
    assert {row.paper for row in published(paper="sge")} == {"sge"}
    found = published(paper="ca", model="mobilenet_v2")
    assert {"MobileNetV2-1.0", "MobileNetV2-0.75"} <= {row.model for row in found}
    assert not any("MobileNeXt" in row.model for row in found)
    assert published(model="ResNet-50") == published(model="resnet50")
    assert "mobilenext" in {row.network_name for row in published(model="mobilenext")}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"paper": "caa"}, "no paper named 'caa'; did you mean 'ca'"),
        ({"model": "mobilenet_v9"}, "no row with a network 'mobilenet_v9'; did you mean 'mobile"),
        ({"model": ""}, "no row with a network ''"),
        ({"paper": "sge", "model": "mobilenet_v2"}, r"no row with a network.*there are ResNet-101"),
    ],
)
def test_a_wrong_filter_names_the_nearest(arguments: dict, match: str) -> None:
    with pytest.raises(UnknownNameError, match=match):
        published(**arguments)
