"""Any data with boxes, opened by one call and checked: digit scenes, COCO JSON, Pascal VOC XML."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convattn.core.errors import DataError, DataNotFoundError
from convattn.data.defects import Defect, OnBad, check_on_bad, shifted, stop
from convattn.data.formats import coco, shards, voc
from convattn.data.images import shown
from convattn.data.options import SCENE_OPTIONS, check_options, existing_folder, own_classes
from convattn.data.records import Record, RecordedDetections, check_records, fingerprint
from convattn.data.samples import DetectionData
from convattn.data.scenes import DigitScenes, scenes_fingerprint
from convattn.data.scenes.objects import SceneDetections

__all__ = ["ACCEPTED", "detection_format", "open_detection"]

ACCEPTED = (
    "Accepted: 'scenes' (embedded, no files), COCO JSON (annotations/instances_train2017.json or "
    "instances_train.json, with images), Pascal VOC (Annotations/*.xml, ImageSets/Main/*.txt, "
    "JPEGImages/, also several as VOC2007 and VOC2012), or shards (`convattn data shard`)."
)


def detection_format(folder: Path) -> str | None:
    """'shards', 'coco' or 'voc' if the folder's content says so, else None."""
    if shards.task_of(folder):
        return "shards"
    if coco.splits(folder):
        return "coco"
    if any(voc.lists_of(tree, "Main") for tree in voc.trees(folder)):
        return "voc"
    return None


def open_detection(
    source: str | os.PathLike[str],
    *,
    masks: bool | None = False,
    on_bad: OnBad = "stop",
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> DetectionData:
    """Open and check data with boxes.

    Args:
        source: "scenes" for the embedded digit scenes, else a folder in COCO's or VOC's layout
            (where a folder of images is expected, a .tar of it may lie) or of shards.
        masks: Whether objects need masks, which VOC XML has not; None asks the data.
        on_bad: What to do about defects: "stop", or "skip" (and report) them. An object is left
            out alone; an image only if it is unreadable or loses its last object.
        verify: Decode every image and mask once, first (of shards: compare checksums).
        progress: Called with (done, total) while files are verified.
        **options: Of scenes: `train_count` (1000), `test_count` (200) and `DigitScenes`' own,
            with `size` 128 and `digits` (1, 3). Of VOC: `train_list`, `test_list` (trainval and
            test if there is a test list, else train and val) and `classes`. Of COCO and shards:
            none.

    Raises:
        DataNotFoundError: There is nothing there that could be read.
        DataError: The data are damaged or inconsistent; names and counts what is wrong.
        ArgumentError: An option has a wrong name or value.
        MissingExtraError: A library that this source needs is not installed.
    """
    check_on_bad(on_bad)
    if str(source) == "scenes":
        check_options(options, SCENE_OPTIONS, "scenes")
        return _scenes(masks is not False, **options)
    folder = existing_folder(source, ACCEPTED)
    kind = detection_format(folder)
    if kind == "shards":
        check_options(options, (), "shards")
        return shards.open_objects(folder, masks, verify, progress)
    if kind == "coco":
        check_options(options, (), "COCO data")
        found = _coco(folder)
    elif kind == "voc":
        check_options(options, ("train_list", "test_list", "classes"), "VOC data")
        if masks:
            raise DataError(
                f"{shown(folder)}: VOC's XML has boxes without masks. Use --task detection, or "
                "COCO JSON with a 'segmentation' for each object."
            )
        found = _voc(folder, **options)
    else:
        raise DataNotFoundError(f"{shown(folder)}: no boxes in a known format. {ACCEPTED}")
    if masks is None:
        masks = any(each.mask for r in found.train + found.test for each in r.objects)
    total = len(found.train) + len(found.test)
    defects = list(found.defects)
    kept: list[tuple[Record, ...]] = []
    before = 0
    for records in (found.train, found.test):
        told = shifted(progress, before, total)
        good, wrong = check_records(records, masks, verify=verify, progress=told)
        kept.append(good)
        defects += wrong
        before += len(records)
    if on_bad == "stop":
        stop(defects, shown(folder))
    for use, good in zip(("training", "testing"), kept, strict=True):
        # without one nothing is learned, and no score is defined
        if all(each.crowd for record in good for each in record.objects):
            first = f"; {len(defects):,} defects, the first: {defects[0]}" if defects else ""
            raise DataError(
                f"{shown(folder)}: no image with an object is left for {use} (a crowd is none)"
                f"{first}."
            )
    return DetectionData(
        name=shown(folder.resolve().name),
        format=kind,
        train=RecordedDetections(kept[0], masks),
        test=RecordedDetections(kept[1], masks),
        classes=found.classes,
        fingerprint=fingerprint(*kept),
        masks=masks,
        defects=tuple(defects),
        notes=(*found.notes, *_negatives(*kept)),
    )


@dataclass(frozen=True)
class _Found:
    """What a reader found, unchecked."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]
    classes: tuple[str, ...]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...] = ()


def _negatives(train: tuple[Record, ...], test: tuple[Record, ...]) -> tuple[str, ...]:
    counts = [sum(not record.objects for record in records) for records in (train, test)]
    if not any(counts):
        return ()
    return (f"images without objects: {counts[0]:,} for training, {counts[1]:,} for testing",)


def _coco(folder: Path) -> _Found:
    found = coco.splits(folder)
    train = next((s for s in found if s.kind == "train"), None)
    test = next((s for kind in ("val", "test") for s in found if s.kind == kind), None)
    if train is None or test is None:
        have = ", ".join(shown(split.path.relative_to(folder)) for split in found)
        raise DataNotFoundError(
            f"{shown(folder)}: found {have}, but no annotations for "
            f"{'training' if train is None else 'testing'}; expected a file named like "
            f"{'instances_train.json' if train is None else 'instances_val.json'}."
        )
    others = [shown(s.path.relative_to(folder)) for s in found if s not in (train, test)]
    train_records, classes, wrong = coco.read(folder, train)
    test_records, test_classes, more = coco.read(folder, test)
    if classes != test_classes:
        raise DataError(
            f"{shown(folder)}: {train.path.name} and {test.path.name} have other categories: "
            f"{sorted(set(classes.items()) ^ set(test_classes.items()))[:5]}."
        )
    notes = (f"not used: {', '.join(others)}",) if others else ()
    names = tuple(classes[number] for number in sorted(classes))
    return _Found(train_records, test_records, names, (*wrong, *more), notes)


def _voc(
    folder: Path,
    train_list: str | None = None,
    test_list: str | None = None,
    classes: Sequence[str] | None = None,
) -> _Found:
    trees = voc.trees(folder)
    lists = {tree: voc.lists_of(tree, "Main") for tree in trees}
    tested = any("test" in names for names in lists.values())
    uses = (train_list or ("trainval" if tested else "train"),
            test_list or ("test" if tested else "val"))  # fmt: skip
    records: list[tuple[Record, ...]] = []
    defects: list[Defect] = []
    notes = []
    for use in uses:
        holding = [tree for tree in trees if use in lists[tree]]
        if not holding:
            have = sorted({name for names in lists.values() for name in names})
            raise DataNotFoundError(
                f"{shown(folder)}: no list ImageSets/Main/{use}.txt; have: {', '.join(have)}."
            )
        found: tuple[Record, ...] = ()
        for tree in holding:
            some, wrong = voc.read_boxes(tree, voc.read_list(tree, "Main", use))
            found += some
            defects += wrong
        records.append(found)
        notes.append(f"{use} of {', '.join(tree.name for tree in holding)}: {len(found):,} images")
    official = all(voc.is_official(tree) for tree in trees)
    names = own_classes(folder, classes) or (
        voc.CLASSES if official else voc.class_names(records[0])
    )
    train, test = (voc.labelled(each, names) for each in records)
    return _Found(train, test, names, tuple(defects), tuple(notes))


def _scenes(
    masks: bool, train_count: int = 1000, test_count: int = 200, **options: Any
) -> DetectionData:
    options = {"size": 128, "digits": (1, 3), **options}
    train, test = (
        SceneDetections(DigitScenes("train", train_count, **options), masks),
        SceneDetections(DigitScenes("test", test_count, **options), masks),
    )
    return DetectionData(
        name="scenes",
        format="scenes",
        train=train,
        test=test,
        classes=tuple(str(digit) for digit in range(10)),
        fingerprint=scenes_fingerprint(train.scenes, test.scenes),
        masks=masks,
    )
