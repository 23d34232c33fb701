"""AP by hand, VOC's two averages, and equality with the COCO tools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convattn.tasks.detection_metrics import COCO_NUMBERS, CocoMap, VocMap

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])


def detected(boxes: Tensor, scores: list[float]) -> dict[str, Tensor]:
    """Detections of class 0."""
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "scores": torch.tensor(scores)}


def annotated(boxes: Tensor, crowd: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Objects of class 0."""
    return {
        "boxes": boxes,
        "labels": torch.zeros(len(boxes), dtype=torch.int64),
        "iscrowd": torch.tensor([int(k in crowd) for k in range(len(boxes))]),
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
        "difficult": torch.zeros(len(boxes), dtype=torch.bool),
    }


def voc_of(
    detections: list[tuple[float, int]], objects: int, difficult: tuple[int, ...] = ()
) -> VocMap:
    """One class; a detection is a score and the number of the box that it repeats (9: none)."""
    boxes = torch.cat([BOXES, torch.tensor([[200.0, 200, 210, 210]])])
    metric = VocMap(2)
    which = torch.tensor([min(k, 4) for _, k in detections], dtype=torch.int64)
    hard = torch.tensor([k in difficult for k in range(objects)], dtype=torch.bool)
    metric.update(
        detected(boxes[which], [score for score, _ in detections]),
        {**annotated(BOXES[:objects]), "difficult": hard},
    )
    return metric


def test_vocs_averages_by_hand() -> None:
    # Right, wrong, right of two objects: precision 1 at recall 1/2, then 2/3 at recall 1.
    scores = voc_of([(0.9, 0), (0.8, 9), (0.7, 1)], 2).scores()
    assert scores["voc07_map"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert scores["voc10_map"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # One of four found: recall 1/4 covers the points 0, 0.1 and 0.2.
    scores = voc_of([(0.9, 0)], 4).scores()
    assert scores["voc07_map"] == pytest.approx(3 / 11)
    assert scores["voc10_map"] == pytest.approx(1 / 4)
    # A second detection of an object is wrong; what is found late counts with its precision.
    scores = voc_of([(0.9, 0), (0.8, 0), (0.7, 9), (0.6, 1)], 2).scores()
    assert scores["voc10_map"] == pytest.approx(0.5 + 0.5 * 2 / 4)
    assert voc_of([], 3).scores() == {"voc07_map": 0, "voc10_map": 0}
    assert voc_of([(0.9, 9)], 0).scores() == {}


def test_difficult_objects_count_neither_way() -> None:
    easy = voc_of([(0.9, 0), (0.7, 1)], 2).scores()
    assert easy == {"voc07_map": 1, "voc10_map": 1}
    # Object 2 is difficult: found (twice) or not, nothing changes.
    for more in ([], [(0.8, 2)], [(0.8, 2), (0.75, 2)]):
        assert voc_of([(0.9, 0), *more, (0.7, 1)], 3, (2,)).scores() == easy
    assert voc_of([(0.9, 0)], 1, (0,)).scores() == {}


def test_overlap_of_a_half_is_enough_and_the_largest_counts() -> None:
    found = []
    for height in (20, 21):  # overlap 1/2, then less
        metric = VocMap(1)
        metric.update(detected(torch.tensor([[0.0, 0, 10, height]]), [1]), annotated(BOXES[:1]))
        found.append(metric.scores()["voc10_map"])
    assert found == [1, 0]
    # Both detections overlap object 0 most, though the second would also do for object 1.
    objects = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10]])
    metric = VocMap(1)
    twice = torch.tensor([[0.0, 0, 10, 10], [0.9, 0, 10.9, 10]])
    metric.update(detected(twice, [0.9, 0.8]), annotated(objects))
    assert metric.scores()["voc10_map"] == 0.5


def images(masks: bool) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Random objects of all sizes with crowds, and detections: some near, some not."""
    rng = torch.Generator().manual_seed(3)
    found = []
    for _ in range(12):
        count = int(torch.randint(1, 7, (), generator=rng))
        corner = torch.rand(count, 2, generator=rng) * 90
        side = torch.rand(count, 2, generator=rng) * 150 + 6
        boxes = torch.cat([corner, corner + side], 1).round()
        labels = torch.randint(0, 3, (count,), generator=rng)
        crowd = (torch.rand(count, generator=rng) < 0.2).long()
        truth = {"boxes": boxes, "labels": labels, "iscrowd": crowd,
                 "area": (boxes[:, 2:] - boxes[:, :2]).prod(1)}  # fmt: skip
        near = boxes.repeat(3, 1) + torch.randn(3 * count, 4, generator=rng) * 6
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 2)
        guess = {"boxes": near.round(), "labels": labels.repeat(3),
                 "scores": torch.rand(3 * count, generator=rng)}  # fmt: skip
        guess["labels"][::5] = (guess["labels"][::5] + 1) % 3
        if masks:
            truth["masks"], guess["masks"] = pixels(truth["boxes"]), pixels(guess["boxes"])
        found.append((truth, guess))
    return found


def pixels(boxes: Tensor) -> Tensor:
    """Discs in the boxes: bool (n, 256, 256)."""
    y, x = torch.meshgrid(torch.arange(256) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    rows = []
    for x0, y0, x1, y1 in boxes.tolist():
        u, v = (x - (x0 + x1) / 2) / (x1 - x0), (y - (y0 + y1) / 2) / (y1 - y0)
        rows.append(u**2 + v**2 <= 0.25)
    return torch.stack(rows)


def of_the_coco_tools(cases: list[Any], kind: str) -> list[float]:
    from pycocotools import mask as tools
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def encoded(mask: Tensor) -> dict[str, Any]:
        return tools.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))

    notes, results = [], []
    for i, (truth, guess) in enumerate(cases, 1):
        for k, (x0, y0, x1, y1) in enumerate(truth["boxes"].tolist()):
            note = {"id": len(notes) + 1, "image_id": i, "category_id": int(truth["labels"][k]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(truth["area"][k]),
                    "iscrowd": int(truth["iscrowd"][k])}  # fmt: skip
            if "masks" in truth:
                note["segmentation"] = encoded(truth["masks"][k])
            notes.append(note)
        for k, (x0, y0, x1, y1) in enumerate(guess["boxes"].tolist()):
            row = {"image_id": i, "category_id": int(guess["labels"][k]),
                   "score": float(guess["scores"][k])}  # fmt: skip
            row |= (
                {"segmentation": encoded(guess["masks"][k])}
                if kind == "segm"
                else {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            )
            results.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {
            "images": [{"id": i + 1, "height": 256, "width": 256} for i in range(len(cases))],
            "categories": [{"id": k, "name": str(k)} for k in range(3)],
            "annotations": notes,
            "info": {},
        }
        truths.createIndex()
        run = COCOeval(truths, truths.loadRes(results), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools under NumPy 2
def test_the_twelve_numbers_are_the_coco_tools() -> None:
    cases = images(masks=True)
    assert any(truth["iscrowd"].any() for truth, _ in cases)
    metric = CocoMap(["a", "b", "c"], masks=True)
    for truth, guess in cases:
        metric.update(guess, truth)
    scores, by_class = metric.scores()
    assert len(COCO_NUMBERS) == 12
    for prefix, kind in (("", "bbox"), ("mask_", "segm")):
        expected = of_the_coco_tools(cases, kind)
        ours = [scores[f"{prefix}{name}"] for name in COCO_NUMBERS]
        assert ours == pytest.approx(expected, abs=1e-12)
        assert len({round(v, 6) for v in expected}) > 8  # not all alike
        each = [by_class[name][f"{prefix}map"] for name in "abc"]
        assert sum(each) / 3 == pytest.approx(scores[f"{prefix}map"], abs=1e-12)


def test_detections_in_a_crowd_count_neither_way() -> None:
    """One of two objects is found; whatever lies in the crowd changes nothing."""
    crowd = torch.tensor([[100.0, 100, 200, 200]])
    inside = torch.tensor([[110.0, 110, 130, 130], [150, 150, 180, 190]])
    found = []
    for more in (torch.zeros(0, 4), inside):
        boxes = torch.cat([BOXES[:1], more])
        metric = CocoMap(["a"], masks=False)
        metric.update(
            detected(boxes, [0.5, 0.7, 0.9][: len(boxes)]),
            annotated(torch.cat([BOXES[:2], crowd]), (2,)),
        )
        found.append(metric.scores()[0])
    # Precision 1 up to recall 1/2, where 51 of the 101 recalls lie.
    assert found[0]["map50"] == pytest.approx(51 / 101)
    assert found[0]["mar100"] == pytest.approx(0.5)
    assert found[1].pop("mar1") < found[0].pop("mar1")  # the one that is let through is in it
    assert found[1] == found[0]


@pytest.mark.parametrize("detections", [1, 0])
def test_numbers_that_are_not_defined_are_left_out(detections: int) -> None:
    """Also where nothing is found."""
    metric = CocoMap(["a", "b"], masks=True)
    box = torch.tensor([[0.0, 0, 20, 20]])  # small for the COCO tools, under 32 x 32
    masks = {"masks": pixels(box)}
    guess = detected(box, [1.0]) | masks
    metric.update({k: v[:detections] for k, v in guess.items()}, annotated(box) | masks)
    scores, by_class = metric.scores()
    names = ("map", "map50", "map75", "map_small", "mar1", "mar10", "mar100", "mar_small")
    for prefix in ("", "mask_"):
        own = {k: v for k, v in scores.items() if k.startswith("mask_") == bool(prefix)}
        expected = dict.fromkeys((prefix + name for name in names), float(detections))
        assert own == pytest.approx(expected)
    assert by_class == {"a": pytest.approx({"map": detections, "mask_map": detections})}


def test_nothing_found_and_nothing_to_find() -> None:
    none = torch.zeros(0, 4)
    metric = CocoMap(["a", "b"], masks=False)
    metric.update(detected(none, []), annotated(BOXES))
    scores, by_class = metric.scores()
    assert scores["map"] == scores["mar100"] == 0
    assert by_class == {"a": {"map": 0}}
    metric = CocoMap(["a"], masks=False)
    metric.update(detected(BOXES, [0.1] * 4), annotated(none))
    assert metric.scores() == ({}, {})
