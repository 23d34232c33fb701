"""Names of metrics as people write them."""

from __future__ import annotations

import pytest

from convattn.core.names import metric_name, suggest


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("top1", "top-1"), ("miou", "mIoU"), ("iou", "IoU"), ("map", "mAP"), ("map50", "mAP50"),
        ("mask_map", "mask mAP"), ("mask_map_small", "mask mAP small"), ("mar100", "mAR100"),
        ("voc07_map", "VOC07 mAP"), ("pixel_accuracy", "pixel accuracy"),
    ],
)  # fmt: skip
def test_metrics_are_named_as_in_papers(name: str, written: str) -> None:
    assert metric_name(name) == written


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("caa", "did you mean 'ca'? (have: ca, se)"),
        ("coordat", "did you mean 'coordatt'? (have: ca, se)"),
        ("zzz", "there are ca, se"),
    ],
)
def test_what_is_said_of_an_unknown_name(name: str, tail: str) -> None:
    assert suggest(name, ("se", "ca"), aliases=["coordatt"]) == tail
