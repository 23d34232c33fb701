"""Shards: everything comes back as it was, each sample once per epoch, and nothing by halves."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from dense_files import coco, coco_note, label_map, photo, voc, voc_object, voc_xml
from PIL import Image
from torch.utils.data import DataLoader

from convattn.cli import main
from convattn.core.config import TrainConfig
from convattn.core.errors import ArgumentError, ConvattnError, DataError
from convattn.core.files import load_checkpoint
from convattn.data.check import check_data, tasks_of
from convattn.data.classification import open_classification
from convattn.data.detection import open_detection
from convattn.data.segmentation import open_segmentation
from convattn.data.sharding import shard_data
from convattn.engine.order import Order
from convattn.engine.reporters import SilentReporter
from convattn.engine.run import RunFolder
from convattn.tasks.train import train

# -------------------------------------------------------------------------------------- the sources


def folders(root: Path, count: int = 3) -> Path:
    """Every kind of file: JPEG turned by its EXIF tag, palette, 16 bits, WebP, strange names."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "d.o g")):
            for k in range(count):
                photo(root / split / name / f"a.{k} b.PNG", 9, 7, 10 * label + k)
        noise = np.random.default_rng(5).integers(0, 256, (12, 8, 3), dtype=np.uint8)
        picture, folder = Image.fromarray(noise), root / split / "cat"
        picture.save(folder / "turned.jpeg", exif=exif)
        picture.save(folder / "lossy.webp")
        picture.convert("P").save(folder / "palette.gif")
        grey = noise[:, :, 0].astype(np.uint16) * 257
        Image.fromarray(grey).save(folder / "deep.tif")
    return root


def objects(root: Path) -> Path:
    """COCO: a crowd, an image without objects, one annotated as it is stored and not as shown."""
    runs = {"size": [6, 8], "counts": [7, 2, 4, 2, 33]}
    notes = [
        coco_note(1, 1, 7, [0.1, 0.2, 3.3, 2.7], area=4.5),
        coco_note(12, 1, 3, [1, 1, 2, 2], segmentation=runs, iscrowd=1),
        coco_note(9, 3, 3, [0, 0, 8, 6]),
    ]
    coco(root, notes, images=3)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "train/2.png") as image:
        image.save(root / "train/2.png", exif=exif)
    return root


def boxes(root: Path) -> Path:
    """VOC: a difficult object."""
    notes = {
        "a": voc_xml(8, 6, voc_object("cow", 1, 1, 3, 3), voc_object("cat", 2, 2, 8, 6, 1)),
        "b": voc_xml(8, 6, voc_object("cat", 3, 1, 4, 6)),
    }
    return voc(root, notes, {"train": ["b", "a"], "val": ["a"]})


def maps(root: Path) -> Path:
    """CamVid: an ignored class, a map that is also void."""
    for k, split in enumerate(("train", "val")):
        photo(root / split / f"{k}.png", 3, 2, k)
        label_map(root / f"{split}annot" / f"{k}.png", [[k, 11, 1], [10, 0, 0]], palette=True)
    return root


OPEN: dict[str, Callable[..., Any]] = {
    "classification": open_classification,
    "detection": lambda source, **more: open_detection(source, masks=False, **more),
    "instance": lambda source, **more: open_detection(source, masks=True, **more),
    "segmentation": open_segmentation,
}
FEW = {"train_count": 10, "test_count": 3, "size": 24}
SOURCES: dict[str, tuple[str, Callable[[Path], Any], dict[str, Any]]] = {
    "folders": ("classification", folders, {}),
    "coco boxes": ("detection", objects, {}),
    "coco masks": ("instance", objects, {}),
    "coco label maps": ("segmentation", objects, {}),
    "voc": ("detection", boxes, {}),
    "camvid": ("segmentation", maps, {}),
    "scene images": ("classification", lambda _: "scenes", FEW),
    "scene boxes": ("detection", lambda _: "scenes", FEW),
    "scene masks": ("instance", lambda _: "scenes", FEW),
    "scene label maps": ("segmentation", lambda _: "scenes", FEW),
}


def content(samples: Any, index: int) -> dict[str, Any]:
    """Everything of a sample but its name."""
    if hasattr(samples, "image"):
        return {"image": samples.image(index), "label": int(samples.labels[index])}
    found = dataclasses.asdict(samples.sample(index))
    del found["name"]
    if callable(getattr(samples, "objects", None)):
        found["objects"] = samples.objects(index)
    return found


def assert_same(one: Any, two: Any) -> None:
    assert one.classes == two.classes
    assert one.name == two.name
    for fact in ("format", "image_size", "masks"):
        assert getattr(one, fact, None) == getattr(two, fact, None)
    for a, b in ((one.train, two.train), (one.test, two.test)):
        assert len(a) == len(b) > 0
        for i in range(len(a)):
            before, after = content(a, i), content(b, i)
            assert before.keys() == after.keys()
            for field, value in before.items():
                if isinstance(value, torch.Tensor):
                    assert value.dtype == after[field].dtype, field
                    assert torch.equal(value, after[field]), (i, field)
                else:
                    assert value == after[field], (i, field)


# ------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("name", SOURCES)
def test_everything_comes_back(name: str, tmp_path: Path) -> None:
    task, make, options = SOURCES[name]
    source = make(tmp_path / "source")
    report = shard_data(source, tmp_path / "shards", task, **options)  # type: ignore[arg-type]
    before = OPEN[task](source, **options)
    after = OPEN[task](tmp_path / "shards")
    assert_same(before, after)
    assert report.samples == (len(before.train), len(before.test))
    assert tasks_of(tmp_path / "shards") == (task,)
    (checked,) = check_data(tmp_path / "shards")
    assert (checked.train, checked.test, checked.defects) == (*report.samples, ())
    shard_data(tmp_path / "shards", tmp_path / "again")  # shards are themselves a source
    again = OPEN[task](tmp_path / "again")
    assert_same(before, again)
    assert again.notes == after.notes == (*before.notes, "shards: 1 for training, 1 for testing")


def test_masks_serve_all_three_tasks(tmp_path: Path) -> None:
    objects(tmp_path / "coco")
    report = shard_data(tmp_path / "coco", tmp_path / "shards")
    assert report.task == "instance"
    for task in ("detection", "instance", "segmentation"):
        assert_same(OPEN[task](tmp_path / "coco"), OPEN[task](tmp_path / "shards"))
    assert open_detection(tmp_path / "shards", masks=None).masks


def test_image_files_are_kept_as_they_are(tmp_path: Path) -> None:
    folders(tmp_path / "source")
    shard_data(tmp_path / "source", tmp_path / "shards")
    data = open_classification(tmp_path / "source")
    after = open_classification(tmp_path / "shards")
    for before, kept in ((data.train, after.train), (data.test, after.test)):
        for i in range(len(before)):
            path, file = before.path(i), kept.image_file(i)  # type: ignore[attr-defined]
            assert file == (f"{i:09d}{path.suffix.lower()}", path.read_bytes())


# ----------------------------------------------------------------- what the webdataset library sees


# the library does not close its files
leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def stream(folder: Path, split: str) -> list[dict[str, Any]]:
    meta = json.loads((folder / "meta.json").read_text())
    files = [str(folder / shard["name"]) for shard in meta[split]]
    return list(webdataset.WebDataset(files, shardshuffle=False))  # type: ignore[attr-defined]


def picture(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@leaves_files_open
def test_webdataset_reads_images_and_labels(tmp_path: Path) -> None:
    shard_data("scenes", tmp_path / "a", "classification", train_count=30, test_count=10, size=24)
    data = open_classification("scenes", train_count=30, test_count=10, size=24)
    for split, samples in (("train", data.train), ("test", data.test)):
        found = stream(tmp_path / "a", split)
        keys = [int(each["__key__"]) for each in found]
        assert sorted(keys) == list(range(len(samples)))
        assert keys != sorted(keys)  # in a random order
        for key, each in zip(keys, found, strict=True):
            assert np.array_equal(picture(each["png"]), samples.image(key).permute(1, 2, 0))
            assert int(each["cls"]) == int(samples.labels[key])
            assert json.loads(each["json"]) == {"name": f"scenes/{split}/{key}"}
    files = sorted(str(path) for path in (tmp_path / "a/train").glob("*.tar"))
    decoded = webdataset.WebDataset(files, shardshuffle=False).decode("rgb8")  # type: ignore[attr-defined]
    image, label = next(iter(decoded.to_tuple("png", "cls")))
    assert (image.shape, image.dtype, label in range(10)) == ((24, 24, 3), np.uint8, True)


@leaves_files_open
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_webdataset_and_the_coco_tools_read_objects(tmp_path: Path) -> None:
    from pycocotools import mask as tools

    objects(tmp_path / "coco")
    shard_data(tmp_path / "coco", tmp_path / "a")
    samples = open_detection(tmp_path / "coco", masks=True).train
    found = {int(each["__key__"]): each for each in stream(tmp_path / "a", "train")}
    assert sorted(found) == [0, 1, 2]
    for key, each in found.items():
        expected, notes = samples.sample(key), json.loads(each["json"])
        assert each["png"] == (tmp_path / "coco/train" / f"{key}.png").read_bytes()
        assert notes["boxes"] == expected.boxes.tolist()
        assert notes["iscrowd"] == expected.crowd.tolist()
        assert expected.masks is not None
        for runs, mask in zip(notes["masks"], expected.masks, strict=True):
            assert np.array_equal(tools.decode(runs), mask)


@leaves_files_open
def test_webdataset_reads_label_maps(tmp_path: Path) -> None:
    shard_data(maps(tmp_path / "camvid"), tmp_path / "a")
    (found,) = stream(tmp_path / "a", "test")
    assert picture(found["seg.png"]).tolist() == [[1, 255, 1], [10, 0, 0]]
    assert found["png"] == (tmp_path / "camvid/val/1.png").read_bytes()


# -------------------------------------------------------------------------- once each, and the same


class Named:
    """Maps (epoch, index) to the name of what was read."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, bytes]:
        return key[0], self.samples.image_file(key[1])[1]


@pytest.mark.parametrize("world", [1, 2, 5])
def test_each_sample_once_per_epoch_over_processes(world: int, tmp_path: Path) -> None:
    """Also where the last batch has fewer samples than there are processes, and from the middle."""
    source = folders(tmp_path / "source", count=9)
    shard_data(source, tmp_path / "shards")
    samples = open_classification(tmp_path / "shards").train
    files = {path.read_bytes() for path in source.glob("train/*/*")}
    assert len(files) == len(samples) == 22
    seen: Counter[tuple[int, bytes]] = Counter()
    for rank in range(world):
        order = Order(len(samples), batch=7, seed=3, rank=rank, world=world)
        last = 2 * order.steps_per_epoch
        for first, behind in ((0, 3), (3, last)):  # stopped, and resumed
            used = [s for s in range(first, behind) if not order.idle(s)]
            keys = [piece for s in used for piece in order.pieces(s)]
            workers = 2 if world == 1 else 0
            loader = DataLoader(
                Named(samples),  # type: ignore[arg-type]
                batch_sampler=keys, collate_fn=list, num_workers=workers,
            )  # fmt: skip
            seen.update(each for batch in loader for each in batch)
    assert set(seen) == {(epoch, file) for epoch in (0, 1) for file in files}
    assert set(seen.values()) == {1}


def test_training_on_shards_is_training_on_the_source(tmp_path: Path) -> None:
    options = {"train_count": 20, "test_count": 10, "size": 24}
    shard_data("scenes", tmp_path / "shards", "classification", **options)
    shared: dict[str, Any] = {
        "model_args": {"width_mult": 0.1}, "batch": 8, "epochs": 1, "device": "cpu", "threads": 1,
        "tensorboard": False,
    }  # fmt: skip
    for name, source in (
        ("source", {"data": "scenes", "data_args": options}),
        ("shards", {"data": str(tmp_path / "shards")}),
    ):
        train(TrainConfig(**shared, **source), RunFolder(tmp_path / name), SilentReporter())
    one, two = (
        load_checkpoint(tmp_path / name / "weights/last.pt")["model"]
        for name in ("source", "shards")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


# ------------------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 120 kB an image, in shards of a megabyte: four for training."""
    root = tmp_path_factory.mktemp("several")
    for split, count in (("train", 15), ("val", 2)):
        for label in ("a", "b"):
            for k in range(count):
                photo(root / "source" / split / label / f"{k}.png", 200, 200, k)
    report = shard_data(root / "source", root / "shards", max_mb=1)
    assert report.shards == (4, 1)
    return root / "shards"


def copied(folder: Path, target: Path) -> Path:
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        (target / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (target / file.relative_to(folder)).write_bytes(file.read_bytes())
    return target


def test_no_shard_is_larger_than_asked_and_none_smaller_than_need_be(several: Path) -> None:
    sizes = [path.stat().st_size for path in sorted((several / "train").glob("*.tar"))]
    assert all(800_000 < size <= 1_000_000 for size in sizes[:-1])
    assert sizes[-1] <= 1_000_000


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("train/000001.tar", Path.unlink, "train/000001.tar: missing"),
    "cut": ("train/000002.tar", shorten, "train/000002.tar: .* bytes, expected "),
    "flipped": ("test/000000.tar", flip, "test/000000.tar: its sha256 is not that of meta.json"),
    "no index": ("train/000003.json", Path.unlink, "train/000003.json: missing"),
    "index": ("train/000000.json", flip, "train/000000.json: its sha256 is not"),
    "meta": ("meta.json", lambda p: p.write_text(p.read_text().replace('"bytes"', '"size"')),
             "meta.json: no description of shards"),
    "version": ("meta.json", lambda p: p.write_text(p.read_text().replace('n": 1', 'n": 9')),
                "shards of version 9, expected 1"),
    "twice": ("meta.json", lambda p: p.write_text(json.dumps(doubled(json.loads(p.read_text())))),
              "do not hold every sample once"),
}  # fmt: skip


def doubled(meta: dict[str, Any]) -> dict[str, Any]:
    return meta | {"train": [*meta["train"][:-1], meta["train"][0]]}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_shard_is_named_and_never_left_out(
    name: str, several: Path, tmp_path: Path
) -> None:
    file, harm, text = DAMAGE[name]
    harm(copied(several, tmp_path / "copy") / file)
    for on_bad in ("stop", "skip"):
        with pytest.raises(DataError, match=text):
            open_classification(tmp_path / "copy", on_bad=on_bad)  # type: ignore[arg-type]
    assert main(["data", "check", str(tmp_path / "copy")]) == 1


def test_unverified_a_damaged_shard_is_met_when_its_turn_comes(
    several: Path, tmp_path: Path
) -> None:
    flawed = copied(several, tmp_path) / "train/000000.tar"
    flawed.write_bytes(b"\1" * flawed.stat().st_size)
    samples = open_classification(tmp_path, verify=False).train
    bad = json.loads((tmp_path / "train/000000.json").read_text())["keys"]
    for i in range(len(samples)):
        if i in bad:
            with pytest.raises(DataError, match=f"train/000000.tar/{i:09d}"):
                samples.image(i)
        else:
            assert samples.image(i).shape == (3, 200, 200)


def test_shards_of_another_task_are_refused(several: Path, tmp_path: Path) -> None:
    shard_data(boxes(tmp_path / "voc"), tmp_path / "shards")
    with pytest.raises(DataError, match="shards for --task detection, not classification"):
        open_classification(tmp_path / "shards")
    with pytest.raises(DataError, match=r"boxes without masks\. Use --task detection"):
        open_detection(tmp_path / "shards", masks=True)
    with pytest.raises(DataError, match="shards for --task classification, not detection or inst"):
        open_detection(several)
    with pytest.raises(DataError, match="shards for --task classification, not segmentation"):
        open_segmentation(several)
    with pytest.raises(ArgumentError, match="no option 'test_share' for shards"):
        open_classification(several, test_share=0.1)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    prints = set()
    for seed in (0, 0, 1):
        options = {"train_count": 10, "test_count": 10, "size": 24, "seed": seed}
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shard_data("scenes", folder, "classification", **options)
        prints.add(open_classification(folder).fingerprint)
    assert len(prints) == 2


# ------------------------------------------------------------------------------- whole or not there

KILLED = textwrap.dedent("""
    import os, signal, sys
    from convattn.data import sharding

    close = sharding._ShardWriter.close

    def dying(self):
        close(self)
        if self.name == "train/000001.tar":
            os.kill(os.getpid(), signal.SIGKILL)

    sharding._ShardWriter.close = dying
    sharding.shard_data(sys.argv[1], sys.argv[2], max_mb=1)
""")


def test_a_killed_writer_leaves_nothing_that_looks_whole(several: Path, tmp_path: Path) -> None:
    source, target = several.parent / "source", tmp_path / "shards"
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = tmp_path.iterdir()
    assert (left / "train/000001.tar").exists()
    with pytest.raises(ConvattnError):
        open_classification(left)
    shard_data(source, target, max_mb=1)  # the same line again
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    files = sorted(p.relative_to(several) for p in several.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(target) for p in target.rglob("*") if p.is_file())
    assert all((several / file).read_bytes() == (target / file).read_bytes() for file in files)


def test_a_full_disc_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convattn.data.sharding.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; nothing was left behind: '.*out'"):
        shard_data("scenes", tmp_path / "out", "classification", **FEW)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / ".out.partial"
    place.mkdir()
    with (place / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArgumentError, match=r"another process is writing .*out"):
            shard_data("scenes", tmp_path / "out", "classification", **FEW)  # type: ignore[arg-type]
    assert place.exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = coco_note(2, 1, 3, [0, 0, 0, 2])
    coco(tmp_path / "coco", [coco_note(1, 1, 3, [0, 0, 2, 2]), bad])
    line = ["data", "shard", str(tmp_path / "coco"), str(tmp_path / "out")]
    assert main(line) == 1
    assert "1 defects (1 box without area)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()  # empty: it may be there
    assert main([*line, "--on_bad", "skip", "--max_mb", "1"]) == 0
    text = capsys.readouterr().out
    assert "instance: 2 training images in 1 tar file, 1 testing images in 1 tar file" in text
    assert "left out train/0.png: box without area: annotation 2 (cat)" in text
    assert main(["data", "check", str(tmp_path / "out")]) == 0
    assert "boxes and masks (coco): 2 training and 1 test images" in capsys.readouterr().out
    assert main(line) == 2
    assert "out is there already" in capsys.readouterr().err
    assert main(["data", "shard", "scenes", str(tmp_path / "b")]) == 2
    assert "give --task classification or instance or segmentation" in capsys.readouterr().err
    assert main(["data", "shard", str(tmp_path / "gone"), str(tmp_path / "b")]) == 2
    assert main([*line[:3], str(tmp_path / "b"), "--max_mb", "0"]) == 2
    assert sorted(os.listdir(tmp_path)) == ["coco", "out"]
