"""Label maps from files: what is read, and what is refused, named and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_files import REAL, coco, coco_note, label_map, photo
from PIL import Image

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.data.images import read_image
from convattn.data.segmentation import open_segmentation

MAP = [[0, 1, 1], [2, 0, 0]]


def camvid(root: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """SegNet's layout: one picture of 3 x 2 and its map in each split."""
    for k, split in enumerate(splits):
        photo(root / split / f"{k}.png", 3, 2, k)
        label_map(root / f"{split}annot" / f"{k}.png", [[k, 11, 1], [10, 0, 0]])
    return root


def general(root: Path, meta: dict[str, object]) -> Path:
    for k, split in enumerate(("train", "val")):
        photo(root / "images" / split / "a.png", 3, 2, k)
        label_map(root / "labels" / split / "a.png", MAP)
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def voc(root: Path, lists: dict[str, list[str]]) -> Path:
    for k, name in enumerate(sorted({i for ids in lists.values() for i in ids})):
        photo(root / "JPEGImages" / f"{name}.png", 3, 2, k)
        label_map(root / "SegmentationClass" / f"{name}.png", [[0, 20, 255], [k, 0, 0]], True)
    for name, ids in lists.items():
        file = root / "ImageSets/Segmentation" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(ids))
    return root


def test_camvid_by_hand(tmp_path: Path) -> None:
    data = open_segmentation(camvid(tmp_path))
    assert (data.format, data.classes[:3], len(data.classes)) == (
        "camvid", ("Sky", "Building", "Pole"), 11,
    )  # fmt: skip
    found = data.train.sample(0)
    assert torch.equal(found.image, read_image(tmp_path / "train/0.png"))
    assert found.mask.tolist() == [[0, 255, 1], [10, 0, 0]]
    assert found.mask.dtype == torch.uint8
    assert (data.test.sample_id(0), data.notes) == ("val/1.png", ("evaluating on 'val'",))
    other = open_segmentation(tmp_path, test_split="test")
    assert other.test.sample(0).mask.tolist() == [[2, 255, 1], [10, 0, 0]]
    assert other.fingerprint != data.fingerprint
    with pytest.raises(DataNotFoundError, match="no images of tset"):
        open_segmentation(tmp_path, test_split="tset")
    with pytest.raises(ArgumentError, match="no option 'split' for CamVid"):
        open_segmentation(tmp_path, split="test")


def test_any_classes_by_meta_json(tmp_path: Path) -> None:
    data = open_segmentation(general(tmp_path, {"classes": ["a", "b"], "ignore_index": 2}))
    assert data.classes == ("a", "b")
    assert data.train.sample(0).mask.tolist() == [[0, 1, 1], [255, 0, 0]]
    general(tmp_path, {"classes": ["a", "b"]})
    with pytest.raises(DataError, match=r"2 unknown class(.|\n)*has the values \[2\]"):
        open_segmentation(tmp_path)
    for meta in ({}, {"classes": []}, {"classes": [1]}, {"classes": ["a"], "ignore_index": -1}):
        with pytest.raises(DataError, match=r"meta\.json"):
            open_segmentation(general(tmp_path, meta))


def test_voc_by_hand(tmp_path: Path) -> None:
    root = voc(tmp_path / "VOC2012", {"train": ["a"], "val": ["b"]})
    data = open_segmentation(root)
    assert (data.classes[0], data.classes[20], len(data.classes)) == ("background", "tvmonitor", 21)
    assert data.train.sample(0).mask.tolist() == [[0, 20, 255], [0, 0, 0]]
    assert data.test.sample(0).mask.tolist() == [[0, 20, 255], [1, 0, 0]]
    # The augmented list takes the augmented maps, and the plain ones where those lack.
    voc(root, {"trainaug": ["c", "a"]})
    label_map(root / "SegmentationClassAug/c.png", [[5, 5, 5], [5, 5, 5]])
    both = open_segmentation(tmp_path)
    assert [both.train.sample(i).mask[0, 0].item() for i in range(2)] == [5, 0]
    assert both.notes == ("trainaug of VOC2012: 2 images", "val of VOC2012: 1 images")
    assert len(open_segmentation(tmp_path, train_list="train").train) == 1
    # DeepLab's lists have both paths.
    line = "/JPEGImages/c.png /SegmentationClassAug/c.png\n"
    (root / "ImageSets/Segmentation/train.txt").write_text(line)
    assert open_segmentation(tmp_path, train_list="train").train.sample_id(0) == "JPEGImages/c.png"


def test_cityscapes_by_hand(tmp_path: Path) -> None:
    for split, city in (("train", "ulm"), ("val", "bonn")):
        stem = f"{split}/{city}/{city}_000000_000019"
        photo(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", 3, 2)
        label_map(tmp_path / "gtFine" / f"{stem}_gtFine_labelIds.png", [[7, 33, 0], [29, 24, 8]])
        label_map(tmp_path / "gtFine" / f"{stem}_gtFine_instanceIds.png", [[0, 0, 0], [0, 0, 0]])
    data = open_segmentation(tmp_path)
    assert (data.format, len(data.classes), data.classes[11]) == ("cityscapes", 19, "person")
    # Road is evaluated class 0, bicycle 18; unlabelled and caravan are not evaluated.
    assert data.train.sample(0).mask.tolist() == [[0, 18, 255], [255, 11, 1]]
    assert data.train.sample_id(0) == "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"


def test_defects(tmp_path: Path) -> None:
    camvid(tmp_path)
    for k, name in enumerate(("lost", "cut", "size", "class", "void", "colour", "text")):
        photo(tmp_path / "train" / f"{name}.png", 3, 2, k)
        label_map(tmp_path / "trainannot" / f"{name}.png", MAP)
    (tmp_path / "trainannot/lost.png").unlink()
    (tmp_path / "train/cut.png").write_bytes((tmp_path / "train/cut.png").read_bytes()[:60])
    photo(tmp_path / "train/size.png", 4, 2)
    label_map(tmp_path / "trainannot/class.png", [[0, 12, 1], [0, 0, 0]])
    label_map(tmp_path / "trainannot/void.png", [[11, 11, 255], [11, 11, 11]])
    photo(tmp_path / "trainannot/colour.png", 3, 2)
    (tmp_path / "trainannot/text.png").write_text("x")
    data = open_segmentation(tmp_path, on_bad="skip")
    assert {Path(d.sample).stem: d.kind for d in data.defects} == {
        "lost": "missing mask",
        "cut": "unreadable image",
        "size": "unreadable image",
        "class": "unknown class",
        "void": "empty annotation",
        "colour": "unreadable annotation",
        "text": "unreadable annotation",
    }
    assert len(data.train) == 1
    with pytest.raises(DataError, match=r"7 defects \(1 empty annotation, 1 missing mask, "):
        open_segmentation(tmp_path)
    unread = open_segmentation(tmp_path, verify=False)
    assert len(unread.train) == 8
    (tmp_path / "train/0.png").write_bytes(b"")
    with pytest.raises(DataError, match="no usable image is left for training; 8 defects"):
        open_segmentation(tmp_path, on_bad="skip")


def test_objects_become_label_maps(tmp_path: Path) -> None:
    notes = [
        coco_note(1, 1, 3, [2, 2, 2, 2]),  # cat, on the dog
        coco_note(2, 1, 7, [0, 0, 6, 6]),
        coco_note(3, 1, 3, [6, 0, 2, 6], iscrowd=1),
    ]
    data = open_segmentation(coco(tmp_path, notes))
    assert data.classes == ("background", "cat", "dog")
    expected = np.full((6, 8), 2)
    expected[2:4, 2:4] = 1
    expected[:, 6:] = 255
    assert data.train.sample(0).mask.tolist() == expected.tolist()


def test_scenes() -> None:
    data = open_segmentation("scenes", train_count=4, test_count=2, size=48, digits=(1, 2))
    assert data.classes == ("background", *"0123456789")
    for i in range(4):
        found = data.train.sample(i)
        scene = data.train.objects.scenes.scene(i)  # type: ignore[attr-defined]
        expected = (scene.masks * (scene.labels + 1)[:, None, None]).sum(0)
        assert torch.equal(found.mask.long(), expected)


def test_camvid() -> None:
    path = REAL / "segmentation" / "camvid"
    if not path.is_dir():
        pytest.skip("the real CamVid is not beside the repository")
    data = open_segmentation(path)
    assert (len(data.train), len(data.test), data.defects) == (367, 101, ())
    assert len(open_segmentation(path, test_split="test", verify=False).test) == 233
    assert data.classes[3] == "Road"
    seen = torch.zeros(256, dtype=torch.int64)
    for i in range(len(data.test)):
        found = data.test.sample(i)
        assert found.image.shape == (3, 360, 480)
        seen += torch.bincount(found.mask.flatten().long(), minlength=256)
    assert seen[11:255].sum() == 0
    assert 0.017 <= float(seen[255] / seen.sum()) <= 0.04  # the void share that its source states


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no label maps in a known format"):
        open_segmentation(tmp_path)
    Image.new("L", (3, 2)).save(tmp_path / "x.png")
    with pytest.raises(DataNotFoundError, match="Accepted: 'scenes'"):
        open_segmentation(tmp_path)
