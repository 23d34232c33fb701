"""Boxes and masks from files: what is read, and what is refused, named and counted."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_files import REAL, coco, coco_note, photo, voc, voc_object, voc_xml
from PIL import Image

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.data.detection import open_detection
from convattn.data.formats.voc import read_list
from convattn.data.images import read_image
from convattn.data.samples import DetectionData, DetectionSample, DetectionSet


def samples(found: DetectionSet) -> list[DetectionSample]:
    return [found.sample(i) for i in range(len(found))]


def square(rows: range, columns: range) -> torch.Tensor:
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[rows.start : rows.stop, columns.start : columns.stop] = True
    return mask


RUNS = {"size": [6, 8], "counts": [7, 2, 4, 2, 33]}  # by columns: rows 1, 2 of columns 1, 2


def test_coco_by_hand(tmp_path: Path) -> None:
    notes = [
        coco_note(11, 1, 7, [1, 1, 3, 2]),
        coco_note(12, 1, 3, [1, 1, 2, 2], segmentation=RUNS, area=3.5),
        coco_note(13, 1, 3, [0, 0, 8, 6], iscrowd=1),
    ]
    data = open_detection(coco(tmp_path, notes), masks=True)
    assert (data.format, data.classes, len(data.train), len(data.test)) == (
        "coco", ("cat", "dog"), 2, 1,
    )  # fmt: skip
    first, empty = samples(data.train)
    assert torch.equal(first.image, read_image(tmp_path / "train" / "0.png"))
    assert first.boxes.tolist() == [[1, 1, 4, 3], [1, 1, 3, 3], [0, 0, 8, 6]]
    assert first.labels.tolist() == [1, 0, 0]  # category 7 is the second by id
    assert first.crowd.tolist() == [False, False, True]
    assert first.areas.tolist() == [6, 3.5, 48]
    assert first.ids.tolist() == [11, 12, 13]
    assert (first.image_id, first.name) == (1, "train/0.png")
    assert first.masks is not None
    assert torch.equal(first.masks[0], square(range(1, 3), range(1, 4)))
    assert torch.equal(first.masks[1], square(range(1, 3), range(1, 3)))
    assert data.train.objects(0) == 2  # a crowd is no object
    assert empty.boxes.shape == (0, 4)
    assert empty.masks is not None
    assert empty.masks.shape == (0, 6, 8)
    assert data.notes == ("images without objects: 1 for training, 0 for testing",)
    assert open_detection(tmp_path).train.sample(0).masks is None


def test_compressed_run_lengths_are_those_of_the_coco_tools(tmp_path: Path) -> None:
    from pycocotools import mask as tools

    packed = tools.frPyObjects(RUNS, 6, 8)
    text = {"size": [6, 8], "counts": packed["counts"].decode()}
    data = open_detection(
        coco(tmp_path, [coco_note(1, 1, 7, [1, 1, 2, 2], segmentation=text)]), masks=True
    )
    masks = data.train.sample(0).masks
    assert masks is not None
    assert torch.equal(masks[0], square(range(1, 3), range(1, 3)))


WRONG_NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "outside": (coco_note(5, 1, 7, [6, 1, 4, 2]), "box outside the image"),
    "far outside": (coco_note(5, 1, 7, [-9, 1, 4, 2]), "box outside the image"),
    "no width": (coco_note(5, 1, 7, [3, 3, 0, 2]), "box without area"),
    "negative": (coco_note(5, 1, 7, [3, 3, 2, -1]), "box without area"),
    "endless": (coco_note(5, 1, 7, [3, float("nan"), 2, 2]), "box without area"),
    "class": (coco_note(5, 1, 99, [1, 1, 2, 2]), "unknown class"),
    "no mask": (coco_note(5, 1, 7, [1, 1, 2, 2], segmentation=[]), "missing mask"),
    "two points": (coco_note(5, 1, 7, [1, 1, 2, 2], segmentation=[[1, 1, 3, 3]]), "missing mask"),
    "other size": (
        coco_note(5, 1, 7, [1, 1, 2, 2], segmentation={"size": [8, 6], "counts": [48]}),
        "missing mask",
    ),
    "short runs": (
        coco_note(5, 1, 7, [1, 1, 2, 2], segmentation={"size": [6, 8], "counts": [7, 2]}),
        "missing mask",
    ),
    "blank": (
        coco_note(5, 1, 7, [1, 1, 2, 2], segmentation={"size": [6, 8], "counts": [48]}),
        "missing mask",
    ),
    "no box": (coco_note(5, 1, 7, []), "empty annotation"),
    "lost": (coco_note(5, 77, 7, [1, 1, 2, 2]), "unknown image"),
    "size": (
        coco_note(5, 1, 7, [1, 1, 2, 2], segmentation={"size": 6, "counts": [48]}),
        "missing mask",
    ),
    "text": (coco_note(5, 1, 7, [1, 1, 2, 2], bbox=["1", 1, 2, 2]), "unreadable annotation"),
    **{
        f"{key} {value!r}": (coco_note(5, 1, 7, [1, 1, 2, 2]) | {key: value}, kind)
        for key, value, kind in (
            ("area", 0, "box without area"),
            ("area", -4, "box without area"),
            ("area", float("nan"), "box without area"),
            ("area", float("inf"), "box without area"),
            ("area", "4", "unreadable annotation"),
            ("iscrowd", "no", "unreadable annotation"),
            ("category_id", [7], "unreadable annotation"),
            ("category_id", "7", "unreadable annotation"),
            ("id", "five", "unreadable annotation"),
            ("id", [5], "unreadable annotation"),
            ("image_id", [1], "unknown image"),
        )
    },
}


@pytest.mark.parametrize("name", WRONG_NOTES)
def test_a_wrong_annotation_stops_or_is_left_out(tmp_path: Path, name: str) -> None:
    note, kind = WRONG_NOTES[name]
    good = [coco_note(1, 1, 3, [0, 0, 2, 2]), coco_note(2, 2, 3, [0, 0, 2, 2])]
    coco(tmp_path, [*good, note])
    with pytest.raises(
        DataError, match=rf"1 defects \(1 {kind}\)(.|\n)*(annotation 5|object 2 )"
    ) as caught:
        open_detection(tmp_path, masks=True)
    assert "--on_bad skip" in str(caught.value)
    data = open_detection(tmp_path, masks=True, on_bad="skip")
    assert [s.ids.tolist() for s in samples(data.train)] == [[1], [2]]
    assert [defect.kind for defect in data.defects] == [kind]


def test_masks_are_asked_for_only_where_they_are_used(tmp_path: Path) -> None:
    coco(tmp_path, [coco_note(1, 1, 3, [0, 0, 2, 2], segmentation=[])])
    assert open_detection(tmp_path).train.sample(0).labels.tolist() == [0]


def test_an_overhang_by_rounding_is_cut(tmp_path: Path) -> None:
    coco(tmp_path, [coco_note(1, 1, 3, [-0.5, 2, 9, 4.7])])
    assert open_detection(tmp_path).train.sample(0).boxes.tolist() == [[0, 2, 8, 6]]


def test_every_kind_is_counted_and_images_lost(tmp_path: Path) -> None:
    notes = [coco_note(k + 1, k + 1, 3, [0, 0, 2, 2]) for k in range(4)]
    notes += [coco_note(9, 1, 3, [1, 1, 0, 1]), coco_note(10, 1, 99, [0, 0, 1, 1])]
    coco(tmp_path, notes, images=4)
    cut = (tmp_path / "train/1.png").read_bytes()
    (tmp_path / "train/1.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "train/2.png").unlink()
    photo(tmp_path / "train/3.png", 9, 6)
    words = r"5 defects \(1 box without area, 1 unknown class, 3 unreadable image\)"
    with pytest.raises(DataError, match=words) as caught:
        open_detection(tmp_path)
    for text in ("train/1.png: unreadable image", "train/2.png: unreadable image: the file does "
                 "not exist", "9 x 6 pixels, but the annotation is for 8 x 6"):  # fmt: skip
        assert text in str(caught.value)
    data = open_detection(tmp_path, on_bad="skip")
    assert [s.name for s in samples(data.train)] == ["train/0.png"]
    unread = open_detection(tmp_path, on_bad="skip", verify=False)
    assert len(unread.train) == 4  # a later surprise then:
    with pytest.raises(DataError, match=r"train/2\.png: the file does not exist"):
        unread.train.sample(2)


@pytest.mark.parametrize("wrong", [{"category_id": 99}, {"bbox": ["1", 1, 2, 2]}, {"bbox": []}])
def test_an_image_that_loses_its_last_object_goes(tmp_path: Path, wrong: dict[str, Any]) -> None:
    notes = [coco_note(1, 1, 3, [0, 0, 2, 2]) | wrong, coco_note(2, 2, 3, [0, 0, 2, 2])]
    data = open_detection(coco(tmp_path, notes), on_bad="skip")
    assert [s.name for s in samples(data.train)] == ["train/1.png"]
    coco(tmp_path, notes[:1])
    with pytest.raises(DataError, match="no image with an object is left for training"):
        open_detection(tmp_path, on_bad="skip")


def test_crowds_alone_leave_no_score_to_compute(tmp_path: Path) -> None:
    coco(tmp_path, [coco_note(1, 1, 3, [0, 0, 2, 2])])
    file = tmp_path / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no image with an object is left for testing"):
        open_detection(tmp_path)


@pytest.mark.parametrize("annotated", ["stored", "shown"])
def test_the_annotated_size_says_whether_a_photo_is_turned(tmp_path: Path, annotated: str) -> None:
    coco(tmp_path, [coco_note(1, 1, 3, [0, 0, 2, 2])], images=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    size = (8, 6) if annotated == "stored" else (6, 8)
    with Image.new("RGB", size) as image:
        image.putpixel((size[0] - 1, 0), (255, 255, 255))
        image.save(tmp_path / "train/0.png", exif=exif)
    image = open_detection(tmp_path).train.sample(0).image
    assert image.shape == (3, 6, 8)
    assert image[0].nonzero().tolist() == [[0, 7] if annotated == "stored" else [5, 7]]


@pytest.mark.parametrize(
    "places",
    [
        ("train2017", "annotations/instances_train2017.json", "val2017",
         "annotations/instances_val2017.json"),
        ("images/train", "train.json", "images/val", "val.json"),
        ("images", "instances_train.json", "images", "instances_test.json"),
        ("train", "train/_annotations.coco.json", "valid", "valid/_annotations.coco.json"),
    ],
)  # fmt: skip
def test_layouts_of_coco(tmp_path: Path, places: tuple[str, str, str, str]) -> None:
    coco(tmp_path / "a", [coco_note(1, 1, 3, [0, 0, 2, 2])])
    for split, images, notes in (("train", *places[:2]), ("val", *places[2:])):
        source = tmp_path / "a/annotations" / f"instances_{split}.json"
        (tmp_path / "b" / notes).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / notes).write_text(source.read_text())
        for picture in (tmp_path / "a" / split).iterdir():
            target = tmp_path / "b" / images / picture.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture.read_bytes())
    data = open_detection(tmp_path / "b")
    assert (len(data.train), len(data.test)) == (2, 1)


def test_structures_that_are_not_coco(tmp_path: Path) -> None:
    coco(tmp_path, [])
    file = tmp_path / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    for change, words in (
        ({"images": []}, "lists no image"),
        ({"images": content["images"] * 2}, "two images have the same id"),
        ({"categories": content["categories"] * 2}, "same id or name"),
        ({"annotations": 5}, "no COCO annotations"),
        ({"images": [content["images"][0] | {"id": [1]}]}, "no COCO annotations"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": "2", "name": "b"}]}, "category.*'2'"),
        ({"categories": [{"id": 1, "name": "cow"}]}, "other categories"),
    ):
        file.write_text(json.dumps(content | change))
        with pytest.raises(DataError, match=words):
            open_detection(tmp_path)
    file.write_text("{")
    with pytest.raises(DataError, match="no COCO annotations"):
        open_detection(tmp_path)
    file.unlink()
    with pytest.raises(DataNotFoundError, match="no annotations for training"):
        open_detection(tmp_path)


def test_voc_by_hand(tmp_path: Path) -> None:
    root = voc(
        tmp_path / "VOC2007",
        {
            "a": voc_xml(8, 6, voc_object("person", 1, 1, 8, 6), voc_object("cow", 2, 3, 4, 5, 1)),
            "b": voc_xml(8, 6, voc_object("cow", 2, 2, 3, 3)),
        },
        {"trainval": ["a"], "test": ["b"], "cow_trainval": ["a"]},
    )
    voc(
        tmp_path / "VOC2012",
        {"c": voc_xml(8, 6, voc_object("dog", 1, 1, 2, 2))},
        {"trainval": ["c"]},
    )
    data = open_detection(tmp_path)
    assert (data.format, len(data.classes), data.classes[14]) == ("voc", 20, "person")
    first, second = samples(data.train)
    # 1-based and inclusive: columns 1 to 8 are the whole width.
    assert first.boxes.tolist() == [[0, 0, 8, 6], [1, 2, 4, 5]]
    assert [data.classes[k] for k in first.labels] == ["person", "cow"]
    assert first.difficult.tolist() == [False, True]
    assert not first.crowd.any()
    assert first.areas.tolist() == [48, 9]
    assert (second.name, len(data.test)) == ("JPEGImages/c.png", 1)
    assert data.notes == (
        "trainval of VOC2007, VOC2012: 2 images", "test of VOC2007: 1 images",
    )  # fmt: skip
    alone = open_detection(root, train_list="test", test_list="trainval")
    assert [s.name for s in samples(alone.train)] == ["JPEGImages/b.png"]
    with pytest.raises(DataNotFoundError, match=r"no list ImageSets/Main/tset.txt; have: cow_tr"):
        open_detection(root, test_list="tset")
    with pytest.raises(DataError, match="boxes without masks"):
        open_detection(root, masks=True)
    with pytest.raises(ArgumentError, match="no option 'lists' for VOC data"):
        open_detection(root, lists="x")


def test_defects_of_voc(tmp_path: Path) -> None:
    cow = voc_object("cow", 2, 2, 3, 3)
    notes = {
        "a": voc_xml(8, 6, cow, voc_object("unicorn", 1, 1, 3, 3)),
        "b": voc_xml(8, 6),
        "c": "",
        "d": "<annotation><object>",
        "e": voc_xml(8, 6, voc_object("cow", 5, 2, 5, 2)),
        "f": voc_xml(8, 6, voc_object("cow", 5, 2, 50, 4)),
        "h": "<annotation><object><name>cow</name></object></annotation>",
    }
    voc(tmp_path / "VOC2012", notes, {"train": [*notes, "g"], "val": ["a"]})
    data = open_detection(tmp_path, on_bad="skip")
    found = Counter((d.kind, Path(d.sample).stem) for d in data.defects)
    assert found == {
        ("unknown class", "a"): 2,  # in both lists
        ("empty annotation", "c"): 1,
        ("unreadable annotation", "d"): 1,
        ("box without area", "e"): 1,
        ("box outside the image", "f"): 1,
        ("unreadable annotation", "g"): 1,  # there is no file
        ("unreadable annotation", "h"): 1,
    }
    assert [s.name for s in samples(data.train)] == ["JPEGImages/a.png", "JPEGImages/b.png"]
    assert samples(data.train)[1].boxes.shape == (0, 4)  # nothing is wrong with a negative
    assert "images without objects: 1 for training, 0 for testing" in data.notes
    with pytest.raises(DataError, match=r"8 defects.*1 empty annotation"):
        open_detection(tmp_path)


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        (["cam.2021.01", "cam.2021.02"], ["cam.2021.01", "cam.2021.02"]),
        (["my 1", "my 2"], ["my 1", "my 2"]),
        (["000005 -1", "000007  1", "000009  0"], ["000005", "000007", "000009"]),
        (["a.2.jpg", "b c.PNG"], ["a.2", "b c"]),
        (["/JPEGImages/a.jpg /Labels/a.png", "b.jpg b.png"], ["a", "b"]),
    ],
)
def test_ids_of_a_list_keep_their_dots_and_spaces(
    tmp_path: Path, lines: list[str], ids: list[str]
) -> None:
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("\n".join(lines) + "\n\n")
    assert read_list(tmp_path, "Main", "train") == ids


def test_classes_of_other_data_in_vocs_layout(tmp_path: Path) -> None:
    notes = {"a": voc_xml(8, 6, voc_object("wbc", 1, 1, 3, 3), voc_object("rbc", 1, 1, 3, 3))}
    root = voc(tmp_path, notes, {"train": ["a"], "val": ["a"]})
    assert open_detection(root).classes == ("rbc", "wbc")
    (root / "classes.txt").write_text("wbc\nrbc\nplatelet\n")
    assert open_detection(root).classes == ("wbc", "rbc", "platelet")
    with pytest.raises(DataError, match="2 unknown class"):
        open_detection(root, classes=["rbc"])
    with pytest.raises(DataError, match="each once"):
        open_detection(root, classes=["rbc", "rbc"])


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_archives_stand_for_folders(tmp_path: Path, suffix: str) -> None:
    notes = [coco_note(1, 1, 7, [1, 1, 3, 2]), coco_note(2, 2, 7, [1, 1, 3, 2])]
    plain = open_detection(coco(tmp_path, notes))
    pictures = [s.image for s in samples(plain.train)]
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}.{suffix}", "w:gz" if "gz" in suffix else "w") as tar:
            for path in sorted((tmp_path / split).iterdir()):
                tar.add(path, path.name)
                path.unlink()
        (tmp_path / split).rmdir()
    packed = samples(open_detection(tmp_path).train)
    assert all(torch.equal(a, s.image) for a, s in zip(pictures, packed, strict=True))
    assert packed[0].name == f"train.{suffix}/0.png"
    whole = (tmp_path / f"train.{suffix}").read_bytes()
    # Plain: within the second file's content (headers and blocks are of 512 bytes).
    cut = 1600 if suffix == "tar" else len(whole) // 2
    (tmp_path / f"train.{suffix}").write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"train\.tar"):
        open_detection(tmp_path)


def test_one_archive_may_hold_the_folder(tmp_path: Path) -> None:
    notes = {"a": voc_xml(8, 6, voc_object("rbc", 1, 1, 3, 3))}
    voc(tmp_path / "x", notes, {"train": ["a"], "val": ["a"]})
    (tmp_path / "y").mkdir()
    with tarfile.open(tmp_path / "y" / "all.tar", "w") as tar:
        for name in ("Annotations", "ImageSets", "JPEGImages"):
            tar.add(tmp_path / "x" / name, name)
    data = open_detection(tmp_path / "y")
    assert data.train.sample_id(0) == "all.tar/JPEGImages/a.png"
    assert torch.equal(data.train.sample(0).image, read_image(tmp_path / "x/JPEGImages/a.png"))


def test_the_fingerprint_follows_the_objects(tmp_path: Path) -> None:
    marks = set()
    for box in ([0, 0, 2, 2], [0, 0, 2, 3]):
        for category in (3, 7):
            marks.add(open_detection(coco(tmp_path, [coco_note(1, 1, category, box)])).fingerprint)
    assert len(marks) == 4
    assert open_detection(tmp_path).fingerprint in marks


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"no boxes in a known format\. Accepted: 'scenes'"):
        open_detection(tmp_path)
    with pytest.raises(DataNotFoundError, match="no such folder"):
        open_detection(tmp_path / "gone")
    with pytest.raises(ArgumentError, match="on_bad must be"):
        open_detection(tmp_path, on_bad="drop")  # type: ignore[arg-type]
    coco(tmp_path, [])
    for picture in (tmp_path / "train").iterdir():
        picture.unlink()
    with pytest.raises(DataNotFoundError, match=r"'0\.png', which is in none of train, images/tr"):
        open_detection(tmp_path)


def test_scenes() -> None:
    data = open_detection("scenes", masks=True, train_count=6, test_count=3, size=64)
    assert (data.classes, len(data.train), len(data.test)) == (tuple("0123456789"), 6, 3)
    for found in samples(data.train):
        assert found.masks is not None
        assert found.masks.sum(0).max() == 1
        for box, mask in zip(found.boxes, found.masks, strict=True):
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            assert box.tolist() == [
                int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1,
            ]  # fmt: skip
        assert found.areas.tolist() == found.masks.sum((1, 2)).tolist()
    assert data.fingerprint != open_detection("scenes", train_count=6, test_count=4).fingerprint


def real(name: str) -> Path:
    path = REAL / "detection" / name
    if not path.is_dir():
        pytest.skip(f"the real data {name} are not beside the repository")
    return path


def per_class(data: DetectionData) -> Counter[str]:
    records = data.train.records + data.test.records  # type: ignore[attr-defined]
    return Counter(data.classes[o.label] for record in records for o in record.objects)


def test_bccd() -> None:
    path = real("bccd_voc")
    with pytest.raises(DataError, match=r"2 defects \(2 box without area\)") as caught:
        open_detection(path)
    assert "BloodImage_00338" in str(caught.value)
    assert "BloodImage_00343" in str(caught.value)
    data = open_detection(path, on_bad="skip", verify=False)
    assert (len(data.train), len(data.test)) == (292, 72)
    assert per_class(data) == {"RBC": 4155 - 2, "WBC": 372, "Platelets": 361}


def test_nuclei() -> None:
    data = open_detection(real("nuclei_dsb2018"), masks=True, verify=False)
    assert (len(data.train), len(data.test)) == (261, 73)
    assert per_class(data) == {"nucleus": 7228 + 2315}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_the_coco_subset_is_what_the_coco_tools_read(capsys: pytest.CaptureFixture[str]) -> None:
    path = real("coco126")
    from pycocotools.coco import COCO

    data = open_detection(path, masks=True)
    assert (len(data.train), len(data.test), len(data.classes)) == (26, 100, 80)
    assert sum(per_class(data).values()) == 181 + 712
    theirs = COCO(str(path / "instances_val.json"))
    capsys.readouterr()
    for found in samples(data.test)[:25]:
        notes = theirs.loadAnns(theirs.getAnnIds(imgIds=[found.image_id]))
        assert found.ids.tolist() == [n["id"] for n in notes]
        assert found.crowd.tolist() == [bool(n["iscrowd"]) for n in notes]
        assert found.areas.tolist() == [n["area"] for n in notes]
        names = [theirs.cats[n["category_id"]]["name"] for n in notes]
        assert [data.classes[k] for k in found.labels] == names
        assert found.masks is not None
        for mask, note in zip(found.masks, notes, strict=True):
            assert torch.equal(mask, torch.from_numpy(theirs.annToMask(note)).bool())
