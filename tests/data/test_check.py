"""`convattn data check`: every task that a source serves, its defects, the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from dense_files import coco, coco_note, label_map, photo, voc, voc_object, voc_xml

from convattn.cli import main
from convattn.core.errors import ArgumentError, DataNotFoundError
from convattn.data.check import check_data, tasks_of


def images(root: Path) -> Path:
    for k in range(5):
        for name in ("cat", "dog"):
            photo(root / name / f"{k}.png", 8, 6)
    return root


def both(root: Path) -> Path:
    notes = {"a": voc_xml(8, 6, voc_object("cow", 1, 1, 3, 3))}
    voc(root, notes, {"train": ["a"], "val": ["a"]})
    for name in ("train", "val"):
        (root / "ImageSets/Segmentation").mkdir(exist_ok=True)
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("a")
    label_map(root / "SegmentationClass/a.png", [[0] * 8] * 6)
    return root


def test_the_format_is_told_from_the_content(tmp_path: Path) -> None:
    assert tasks_of(images(tmp_path / "a")) == ("classification",)
    assert tasks_of(coco(tmp_path, [])) == ("instance",)
    assert tasks_of(both(tmp_path / "VOC2012")) == ("detection", "segmentation")
    assert tasks_of("scenes") == ("classification", "instance", "segmentation")
    reports = check_data(tmp_path / "VOC2012")
    assert [(r.task, r.format, r.train, r.test, r.objects, len(r.classes)) for r in reports] == [
        ("boxes", "voc", 1, 1, 2, 20),
        ("segmentation", "voc", 1, 1, None, 21),
    ]


def test_coco_without_masks_is_no_defect_until_masks_are_asked_for(tmp_path: Path) -> None:
    bare = {k: v for k, v in coco_note(1, 1, 3, [0, 0, 2, 2]).items() if k != "segmentation"}
    coco(tmp_path, [bare])
    file = tmp_path / "annotations/instances_val.json"
    file.write_text(file.read_text().replace("segmentation", "outline"))
    (report,) = check_data(tmp_path)
    assert (report.task, report.defects) == ("boxes", ())
    with pytest.raises(ArgumentError, match="task must be one of"):
        check_data(tmp_path, "boxes")  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = coco_note(1, 1, 3, [0, 0, 2, 2]), coco_note(2, 1, 3, [0, 0, 0, 2])
    coco(tmp_path / "good", [good])
    coco(tmp_path / "bad", [good, bad])
    assert main(["data", "check", str(tmp_path / "good")]) == 0
    assert "2 training and 1 test images, 2 objects, 2 classes: cat, dog" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "bad")]) == 1
    text = capsys.readouterr().out
    assert "1 defects: 1 box without area" in text
    assert "train/0.png: box without area: annotation 2 (cat)" in text
    assert main(["data", "check", str(tmp_path / "bad"), "--on_bad", "skip"]) == 0
    assert main(["data", "check", str(tmp_path / "bad"), "--task", "segmentation"]) == 1
    assert main(["data", "check", str(tmp_path / "gone")]) == 2
    (tmp_path / "good/annotations").rename(tmp_path / "good/notes")
    capsys.readouterr()
    assert main(["data", "check", str(images(tmp_path / "pets"))]) == 0
    assert "classification (images): 8 training and 2 test images" in capsys.readouterr().out


def test_an_unknown_folder_names_all_formats(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"(?s)classification.*detection.*segmentation"):
        check_data(tmp_path)
