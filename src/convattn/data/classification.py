"""Any classification data, opened by one call and checked.

`open_classification` tells the kind of a source from its content. What it returns has no transforms
and no random order: images are uint8 as stored, and the rest is the trainer's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from convattn.core.errors import DataError, DataNotFoundError
from convattn.data import image_files
from convattn.data.baseline import chance_level, linear_baseline
from convattn.data.defects import OnBad, check_on_bad
from convattn.data.formats import cifar, image_folder, shards
from convattn.data.images import shown
from convattn.data.options import SCENE_OPTIONS, check_options, existing_folder
from convattn.data.scenes import DigitScenes, scenes_fingerprint
from convattn.data.sets import ClassificationData, ImageSet

__all__ = [
    "ClassificationData",
    "ImageSet",
    "chance_level",
    "linear_baseline",
    "open_classification",
]

ACCEPTED = (
    "Accepted: 'scenes' (embedded, no files), a folder with train/CLASS/*.jpg and val/CLASS/*.jpg "
    "(or test/), a folder with CLASS/*.jpg, a CIFAR-10 pack (meta.json and .webp mosaics), or "
    "shards (`convattn data shard`)."
)


def open_classification(
    source: str | os.PathLike[str],
    *,
    on_bad: OnBad = "stop",
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> ClassificationData:
    """Open and check classification data.

    Args:
        source: "scenes" for the embedded digit scenes, else a folder (`./scenes` for one of that
            name): an ImageFolder tree, the CIFAR-10 pack or shards.
        on_bad: What to do about damaged images in a folder: "stop" or "skip" (and report) them.
        verify: Decode every file of a folder once, first (of shards: compare checksums). Without
            it a damaged file is met only when its turn comes, and raises then.
        progress: Called with (done, total) while files are verified.
        **options: Of scenes: `train_count` (2000), `test_count` (500) and `DigitScenes`' own. Of
            folders: `test_share` (0.2), used where there is no test folder. Of the pack:
            `train_count` and `test_count` (all). Of shards: none.

    Raises:
        DataNotFoundError: There is nothing there that could be read.
        DataError: The data are damaged or inconsistent.
        ArgumentError: An option has a wrong name or value.
        MissingExtraError: A library that this source needs is not installed.
    """
    check_on_bad(on_bad)
    if str(source) == "scenes":
        check_options(options, SCENE_OPTIONS, "scenes")
        data = _scenes(**options)
    elif cifar.is_pack(folder := existing_folder(source, ACCEPTED)):
        check_options(options, ("train_count", "test_count"), "a CIFAR pack")
        data = _pack(folder, **options)
    elif shards.task_of(folder):
        check_options(options, (), "shards")
        data = shards.open_images(folder, verify, progress)
    elif not image_folder.class_folders(folder):
        found = sorted(shown(name) for name in os.listdir(folder))
        inside = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise DataNotFoundError(
            f"{shown(folder)}: neither class folders nor a pack's meta.json; it holds "
            f"{inside or 'nothing'}. {ACCEPTED}"
        )
    else:
        check_options(options, ("test_share",), "an image folder")
        data = _folder(folder, on_bad, verify, progress, **options)
    unseen = set(data.test.labels.tolist()) - set(data.train.labels.tolist())
    if unseen:
        names = ", ".join(repr(data.classes[label]) for label in sorted(unseen)[:10])
        raise DataError(
            f"{data.name}: {len(unseen)} classes of the test set have no training image: {names}. "
            "Add training images (or raise train_count)."
        )
    return data


def _scenes(train_count: int = 2000, test_count: int = 500, **options: Any) -> ClassificationData:
    train = DigitScenes("train", train_count, **options)
    test = DigitScenes("test", test_count, **options)
    return ClassificationData(
        name="scenes",
        train=train,
        test=test,
        classes=tuple(str(digit) for digit in range(10)),
        fingerprint=scenes_fingerprint(train, test),
        image_size=train.size,
    )


def _pack(folder: Path, **counts: int | None) -> ClassificationData:
    train, test, classes, notes = cifar.open_pack(folder, **counts)
    files = cifar.read_meta(folder)["files"]
    facts = [classes] + [
        [name, count, files[name]["pixels_sha256"], files[name]["labels_sha256"]]
        for name, count in train.files + test.files
    ]
    return ClassificationData(
        name=shown(folder.resolve().name),
        train=train,
        test=test,
        classes=classes,
        fingerprint=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        notes=notes,
        image_size=cifar.SIDE,
    )


def _folder(
    folder: Path,
    on_bad: OnBad,
    verify: bool,
    progress: Callable[[int, int], None] | None,
    test_share: float = 0.2,
) -> ClassificationData:
    found = image_folder.scan_folders(folder, test_share)
    train, test = found.train, found.test
    skipped: tuple[tuple[str, str], ...] = ()
    size = None
    if verify:
        both = image_files.ImageFiles(
            folder, train.names + test.names, torch.cat([train.labels, test.labels])
        )
        good, skipped, sizes = image_files.check_images(both, on_bad, progress=progress)
        train, test = (
            train.keep([i for i in good if i < len(train)]),
            test.keep([i - len(train) for i in good if i >= len(train)]),
        )
        if not len(train) or not len(test):
            raise DataError(
                f"{shown(folder)}: no usable image is left for "
                f"{'training' if not len(train) else 'testing'}; {len(skipped):,} were skipped, "
                f"the first {skipped[0][0]}: {skipped[0][1]}."
            )
        squares = {height for height, width in sizes if height == width}
        size = squares.pop() if len(sizes) == 1 and squares else None
    return ClassificationData(
        name=shown(folder.resolve().name),
        train=train,
        test=test,
        classes=found.classes,
        fingerprint=image_files.fingerprint(train, test),
        skipped=skipped,
        notes=found.notes,
        image_size=size,
    )
