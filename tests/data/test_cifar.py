"""The CIFAR-10 pack: checksums of decoded pixels, and what happens to a damaged copy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convattn.core.errors import ArgumentError, DataError, DataNotFoundError
from convattn.data.classification import chance_level, open_classification

PACK = Path(__file__).resolve().parents[3] / "shared" / "data" / "classification" / "cifar10"


def test_the_real_pack() -> None:
    if not (PACK / "meta.json").is_file():
        pytest.skip("the CIFAR-10 pack is not beside this repository")
    data = open_classification(PACK, train_count=10_100)
    meta = json.loads((PACK / "meta.json").read_text())
    assert len(data.test) == 10_000
    assert data.classes[3] == "cat"
    assert data.image_size == 32
    assert chance_level(data) == 0.1
    assert data.train.sample_id(10_017) == "train_2/17"
    # the sum over the pictures as handed out, one by one, not over the mosaic
    digest = hashlib.sha256()
    for i in range(10_000):
        digest.update(data.test.image(i).permute(1, 2, 0).numpy().tobytes())
    assert digest.hexdigest() == meta["files"]["test"]["pixels_sha256"]
    assert torch.bincount(data.test.labels).tolist() == meta["files"]["test"]["per_class"]


def write_mosaic(folder: Path, name: str, seed: int) -> dict[str, object]:
    """A mosaic whose first 30 tiles are noise, the rest black; its entry of meta.json."""
    rng = np.random.default_rng(seed)
    mosaic = np.zeros((3200, 3200, 3), np.uint8)
    mosaic[:32, : 30 * 32] = rng.integers(0, 256, (32, 30 * 32, 3))
    Image.fromarray(mosaic).save(folder / f"{name}.webp", lossless=True, quality=0, method=0)
    labels = (np.arange(30) % 3).astype(np.uint8)
    np.save(folder / f"{name}_labels.npy", labels)
    tiles = np.concatenate([mosaic[:32, k * 32 : k * 32 + 32] for k in range(30)])
    return {
        "n": 30,
        "pixels_sha256": hashlib.sha256(tiles.tobytes()).hexdigest(),
        "labels_sha256": hashlib.sha256(labels.tobytes()).hexdigest(),
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    files = {name: write_mosaic(folder, name, k) for k, name in enumerate(("train_1", "test"))}
    files["train_2"] = files["train_1"]
    meta = {"classes": ["a", "b", "c"], "layout": "3200x3200 RGB", "files": files}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_a_small_pack_and_what_it_lacks(small: Path) -> None:
    data = open_classification(small)
    assert (len(data.train), len(data.test)) == (30, 30)
    assert data.notes == (f"{small} holds 1 of 2 training files (without train_2)",)
    mosaic = np.asarray(Image.open(small / "train_1.webp"))
    assert np.array_equal(data.train.image(7).permute(1, 2, 0), mosaic[:32, 7 * 32 : 8 * 32])
    fewer = open_classification(small, train_count=9, test_count=5)
    assert (len(fewer.train), len(fewer.test)) == (9, 5)
    assert torch.equal(fewer.train.image(8), data.train.image(8))
    assert fewer.fingerprint != data.fingerprint
    with pytest.raises(ArgumentError, match="train_count must be 1 to 30"):
        open_classification(small, train_count=31)
    with pytest.raises(DataError, match=r"no training image: 'b', 'c'"):
        open_classification(small, train_count=1)


def edit_meta(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


def other_pixels(folder: Path) -> None:
    shutil.copy(folder / "test.webp", folder / "train_1.webp")


def other_labels(folder: Path) -> None:
    np.save(folder / "train_1_labels.npy", np.zeros(30, np.uint8))


def wide_labels(folder: Path) -> None:
    np.save(folder / "train_1_labels.npy", np.zeros(30, np.int64))


def cut_mosaic(folder: Path) -> None:
    path = folder / "train_1.webp"
    path.write_bytes(path.read_bytes()[:4000])


def small_mosaic(folder: Path) -> None:
    Image.new("RGB", (64, 64)).save(folder / "train_1.webp")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_pixels, r"train_1\.webp: its pixels are not those of meta\.json"),
        (other_labels, r"train_1_labels\.npy: its labels are not those of meta\.json"),
        (wide_labels, r"train_1_labels\.npy: int64 of shape \(30,\), expected a list of uint8"),
        (lambda f: (f / "train_1_labels.npy").unlink(), r"labels\.npy: the file does not exist"),
        (lambda f: (f / "train_1_labels.npy").write_bytes(b"x"), r"train_1_labels\.npy: "),
        (cut_mosaic, r"train_1\.webp: "),
        (small_mosaic, r"64 x 64 pixels, expected 3200 x 3200"),
        (lambda f: edit_meta(f, lambda m: m.update(classes="abc")), r"meta\.json: expected"),
        (lambda f: edit_meta(f, lambda m: m.pop("classes")), r"meta\.json: cannot be used"),
        (lambda f: edit_meta(f, lambda m: m.update(classes=["a"])), r"expected 30 in 0\.\.0"),
    ],
)
def test_a_damaged_pack_is_refused(
    small: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    shutil.copytree(small, tmp_path / "pack")
    spoil(tmp_path / "pack")
    with pytest.raises(DataError, match=words):
        open_classification(tmp_path / "pack")


def test_a_pack_without_its_test_file(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "pack")
    (tmp_path / "pack" / "test.webp").unlink()
    with pytest.raises(DataNotFoundError, match=r"needs test\.webp.*found train_1\.webp"):
        open_classification(tmp_path / "pack")
