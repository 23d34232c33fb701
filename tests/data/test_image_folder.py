"""Class folders: what is accepted, the fixed split, and one clear error for each defect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.data.classification import open_classification
from convattn.data.formats.image_folder import scan_folders


def colour_of(name: str) -> tuple[int, int, int]:
    """A colour that tells one file from every other."""
    number = sum(ord(c) * 31**k for k, c in enumerate(name))
    return number % 251, number // 251 % 241, number % 239


def fill(root: Path, tree: dict[str, int]) -> Path:
    """Folders with so many one-colour images each; the colour follows from the path."""
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            name = f"{folder}/{k:03d}.png"
            Image.new("RGB", (8, 8), colour_of(name)).save(root / name)
    return root


def ids(files: object) -> list[str]:
    return [files.sample_id(i) for i in range(len(files))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("test_name", ["val", "test", "validation", "valid"])
def test_imagenets_layout(tmp_path: Path, test_name: str) -> None:
    tree = {"train/dog": 3, "train/cat": 2, f"{test_name}/dog": 1, f"{test_name}/cat": 2}
    data = open_classification(fill(tmp_path, tree))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1]
    assert ids(data.test) == [f"{test_name}/cat/000.png", f"{test_name}/cat/001.png",
                              f"{test_name}/dog/000.png"]  # fmt: skip
    assert data.image_size == 8
    assert data.notes == data.skipped == ()
    for files in (data.train, data.test):
        for i, name in enumerate(ids(files)):
            assert files.image(i)[:, 0, 0].tolist() == list(colour_of(name))


def test_one_tree_gives_every_fifth_image_to_the_test_set(tmp_path: Path) -> None:
    data = open_classification(fill(tmp_path, {"a": 11, "b": 3}))
    assert ids(data.test) == ["a/004.png", "a/009.png", "b/002.png"]
    assert sorted(ids(data.train) + ids(data.test)) == [
        *(f"a/{k:03d}.png" for k in range(11)),
        *(f"b/{k:03d}.png" for k in range(3)),
    ]
    assert "3 of its 14 images" in data.notes[0]
    half = open_classification(tmp_path, test_share=0.5)
    assert ids(half.test) == [f"a/{k:03d}.png" for k in (1, 3, 5, 7, 9)] + ["b/001.png"]
    with pytest.raises(ArgumentError, match="test_share must be"):
        open_classification(tmp_path, test_share=0.7)


def test_train_without_test_is_split_and_said(tmp_path: Path) -> None:
    data = open_classification(fill(tmp_path, {"train/a": 5, "train/b": 5}))
    assert ids(data.test) == ["train/a/004.png", "train/b/004.png"]
    assert "no test set" in data.notes[0]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert scan_folders(fill(tmp_path, {"train": 5, "plane": 5})).classes == ("plane", "train")


def test_val_goes_before_test_and_the_note_says_so(tmp_path: Path) -> None:
    data = open_classification(
        fill(tmp_path, {f"{s}/{c}": 1 for s in ("train", "val", "test") for c in "ab"})
    )
    assert ids(data.test) == ["val/a/000.png", "val/b/000.png"]
    assert data.notes == ("evaluating on 'val'; 'test' is not used",)


def test_nested_folders_links_hidden_and_other_files(tmp_path: Path) -> None:
    root = fill(tmp_path / "root", {"a/deep/er": 5, "b": 5})
    fill(tmp_path, {"elsewhere": 5})
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "circle").symlink_to(root / "b")
    (root / ".cache").mkdir()
    (root / "b" / ".DS_Store").write_text("x")
    (root / "b" / "notes.txt").write_text("x")
    data = open_classification(root)
    assert data.classes == ("a", "b", "linked")
    assert len(data.train) + len(data.test) == 15
    assert any("1 files" in note and "'b/notes.txt'" in note for note in data.notes)


def test_the_fingerprint_follows_names_sizes_and_split(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 6, "b": 6})
    first = open_classification(tmp_path).fingerprint
    assert open_classification(tmp_path, verify=False).fingerprint == first
    assert open_classification(tmp_path, test_share=0.5).fingerprint != first
    path = tmp_path / "a" / "000.png"
    path.rename(tmp_path / "a" / "0000.png")
    renamed = open_classification(tmp_path).fingerprint
    assert renamed != first
    with (tmp_path / "a" / "0000.png").open("ab") as file:
        file.write(b"x")
    assert open_classification(tmp_path).fingerprint not in (first, renamed)


def test_images_of_different_sizes_have_no_common_size(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2, "b": 2})
    assert open_classification(tmp_path, verify=False).image_size is None
    Image.new("RGB", (9, 8)).save(tmp_path / "a" / "000.png")
    assert open_classification(tmp_path).image_size is None


@pytest.mark.parametrize(
    ("tree", "error", "words"),
    [
        ({}, DataNotFoundError, r"holds nothing.*Accepted: 'scenes'"),
        ({"a": 2, "b": 0, "c": 0}, DataError, r"2 of 3 class folders hold no image: 'b', 'c'\."),
        ({"a": 2, "b": 1}, DataError, r"class 'b' has a single image"),
        ({"val/a": 2}, DataError, r"found 'val' but no 'train'"),
        (
            {"train/a": 1, "train/b": 1, "val/b": 1, "val/c": 1},
            DataError,
            r"Only in train: 'a'\. Only in val: 'c'\.",
        ),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 0}, DataError, r"hold no image: 'b'"),
    ],
)
def test_defects_of_the_tree(
    tmp_path: Path, tree: dict[str, int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        open_classification(fill(tmp_path, tree))
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_a_file_and_a_misspelt_name(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"gone'?: no such folder.*Accepted"):
        open_classification(tmp_path / "gone")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataNotFoundError, match="a file, expected a folder"):
        open_classification(tmp_path / "file")
    with pytest.raises(DataNotFoundError, match="Did you mean 'scenes'"):
        open_classification("scene")
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "flat" / "x.jpg")
    with pytest.raises(DataNotFoundError, match=r"neither class folders.*holds x\.jpg"):
        open_classification(tmp_path / "flat")


def spoil(root: Path) -> dict[str, str]:
    """Bad files of every kind in class `a`: name -> cause."""
    (root / "a" / "e_empty.jpg").write_bytes(b"")
    (root / "a" / "f_text.jpg").write_text("hello")
    (root / "a" / "g_folder.jpg").mkdir()
    (root / "a" / "h_link.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "i_cut.png").write_bytes((root / "a" / "000.png").read_bytes()[:50])
    return {
        "a/e_empty.jpg": "0 bytes",
        "a/f_text.jpg": "not an image",
        "a/g_folder.jpg": "a directory",
        "a/h_link.jpg": "dangling link to nowhere.jpg",
        "a/i_cut.png": "",
    }


def test_stop_names_every_bad_file_with_its_cause(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 6, "b": 5})
    bad = spoil(tmp_path)
    with pytest.raises(DataError) as caught:
        open_classification(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"5 of 16 images in {tmp_path} cannot be used:")
    for name, cause in bad.items():
        line = next(line for line in text.splitlines() if f"{name}: " in line)
        assert cause in line
        assert len(line) > len(f"  {name}: ") + 5
    assert "--on_bad skip" in text


def test_stop_lists_ten_and_counts_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 5, "b": 5})
    for k in range(17):
        (tmp_path / "a" / f"x{k}.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="17 of 27 images") as caught:
        open_classification(tmp_path)
    assert str(caught.value).count("0 bytes") == 10
    assert "and 7 more" in str(caught.value)


def test_skip_drops_and_reports_and_shifts_nobody(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 6, "b": 5})
    bad = spoil(tmp_path)
    data = open_classification(tmp_path, on_bad="skip")
    assert {name for name, _ in data.skipped} == set(bad)
    assert all(bad[name] in cause for name, cause in data.skipped)
    # The split was made before: sound files stay on their side, with their own pixels and labels.
    assert ids(data.test) == ["a/004.png", "b/004.png"]
    assert len(data.train) == 9
    for files in (data.train, data.test):
        for i, name in enumerate(ids(files)):
            assert files.image(i)[:, 0, 0].tolist() == list(colour_of(name))
            assert data.classes[int(files.labels[i])] == name[0]
    with pytest.raises(ArgumentError, match="on_bad must be"):
        open_classification(tmp_path, on_bad="replace")  # type: ignore[arg-type]


def test_skip_may_not_empty_a_class(tmp_path: Path) -> None:
    fill(tmp_path, {"train/a": 2, "train/b": 1, "val/a": 1, "val/b": 1})
    (tmp_path / "train/b/000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 classes of the test set have no training image: 'b'"):
        open_classification(tmp_path, on_bad="skip")
    (tmp_path / "val/a/000.png").write_bytes(b"")
    (tmp_path / "val/b/000.png").write_bytes(b"")
    with pytest.raises(DataError, match="no usable image is left for testing; 3 were skipped"):
        open_classification(tmp_path, on_bad="skip")


def test_unverified_or_later_damaged_files_raise_when_read(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a/000.png").write_bytes(b"")
    data = open_classification(tmp_path, verify=False)
    with pytest.raises(DataError, match=r"a/000\.png: the file is empty"):
        data.train.image(0)
    (tmp_path / "a/001.png").unlink()
    with pytest.raises(DataError, match=r"a/001\.png: the file does not exist"):
        data.train.image(1)
    assert torch.equal(data.train.image(2), data.train.image(2))


def test_progress_counts_every_file(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    open_classification(fill(tmp_path, {"a": 3, "b": 4}), progress=lambda *c: calls.append(c))
    assert calls == [(k, 7) for k in range(1, 8)]


def test_strange_class_and_file_names(tmp_path: Path) -> None:
    fill(tmp_path, {"plain": 5})
    strange = os.path.join(os.fsencode(tmp_path), b"n\xff\nl")
    try:
        os.mkdir(strange)
    except OSError:
        pytest.skip("this file system does not accept the name")
    for k in range(5):
        with open(os.path.join(strange, b"%d\n\xfe.png" % k), "wb") as file:
            Image.new("RGB", (8, 8), (k, k, k)).save(file, "png")
    data = open_classification(tmp_path)
    assert data.classes == ("n\\xff\\nl", "plain")
    assert data.test.sample_id(0) == "n\\xff\\nl/4\\n\\xfe.png"
    assert int(data.test.image(0).max()) == 4
    assert len(data.fingerprint) == 64
    with open(os.path.join(strange, b"1\n\xfe.png"), "wb"):
        pass
    with pytest.raises(DataError, match="0 bytes") as caught:
        open_classification(tmp_path)
    str(caught.value).encode("utf-8")


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(ArgumentError, match=r"no option 'tests_share'.*mean 'test_share'"):
        open_classification(tmp_path, tests_share=0.3)
