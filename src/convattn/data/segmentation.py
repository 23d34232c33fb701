"""Any data with label maps, opened by one call and checked.

Digit scenes, Pascal VOC, Cityscapes, CamVid and its like, COCO JSON with masks, and shards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from convattn.core.errors import DataError, DataNotFoundError
from convattn.data.defects import Defect, OnBad, check_on_bad, shifted, stop
from convattn.data.detection import detection_format, open_detection
from convattn.data.formats import camvid, cityscapes, shards, voc
from convattn.data.images import shown
from convattn.data.label_maps import LabelledFiles, Pair, check_pairs, fingerprint, lookup
from convattn.data.options import check_options, existing_folder
from convattn.data.samples import SegmentationData
from convattn.data.semantic import SemanticView, semantic_classes

__all__ = ["ACCEPTED", "open_segmentation", "segmentation_format"]

ACCEPTED = (
    "Accepted: 'scenes' (embedded, no files), Pascal VOC (SegmentationClass/, JPEGImages/, "
    "ImageSets/Segmentation/*.txt), Cityscapes (leftImg8bit/, gtFine/), CamVid (train/, "
    "trainannot/, ...), any data as images/SPLIT/, labels/SPLIT/ with a meta.json, COCO JSON with "
    "masks, or shards (`convattn data shard`)."
)
_AUGMENTED = ("trainaug", "train_aug")
_TESTS = ("val", "test")


def segmentation_format(folder: Path) -> str | None:
    """The format by the folder's content, such as 'voc' or 'shards'; None if it is not known."""
    if shards.task_of(folder):
        return "shards"
    if any(voc.lists_of(tree, "Segmentation") for tree in voc.trees(folder)):
        return "voc"
    if cityscapes.found_in(folder):
        return "cityscapes"
    if camvid.layout(folder) is not None:
        return "camvid"
    return "coco" if detection_format(folder) == "coco" else None


def open_segmentation(
    source: str | os.PathLike[str],
    *,
    on_bad: OnBad = "stop",
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> SegmentationData:
    """Open and check data with label maps.

    Args:
        source: "scenes" for the embedded digit scenes, else a folder.
        on_bad: What to do about defects: "stop", or "skip" (and report) those images.
        verify: Decode every image and label map once, first (of shards: compare checksums).
        progress: Called with (done, total) while files are verified.
        **options: Of scenes: as `open_detection`. Of folders: `test_split` (val if it is there,
            else test). Of VOC: `train_list`, `test_list` (trainaug if that list and
            SegmentationClassAug are there, else train; val).

    Raises:
        DataNotFoundError: There is nothing there that could be read.
        DataError: The data are damaged or inconsistent; names and counts what is wrong.
        ArgumentError: An option has a wrong name or value.
        MissingExtraError: A library that this source needs is not installed.
    """
    check_on_bad(on_bad)
    folder = None if str(source) == "scenes" else existing_folder(source, ACCEPTED)
    kind = "scenes" if folder is None else segmentation_format(folder)
    if folder is not None and kind == "shards" and shards.task_of(folder) != "instance":
        check_options(options, (), "shards")
        return shards.open_label_maps(folder, verify, progress)
    if folder is None or kind in ("coco", "shards"):
        shared: dict[str, Any] = {"on_bad": on_bad, "verify": verify, "progress": progress}
        objects = open_detection(source, masks=True, **shared, **options)
        return SegmentationData(
            name=objects.name,
            format=objects.format,
            train=SemanticView(objects.train),
            test=SemanticView(objects.test),
            classes=semantic_classes(objects),
            fingerprint=objects.fingerprint,
            defects=objects.defects,
            notes=objects.notes,
        )
    if kind == "voc":
        check_options(options, ("train_list", "test_list"), "VOC data")
        train, test, notes = _voc(folder, **options)
        classes: tuple[str, ...] = ("background", *voc.CLASSES)
        table = lookup(len(classes))
    elif kind == "cityscapes":
        check_options(options, ("test_split",), "Cityscapes")
        train, test, notes = _splits(folder, cityscapes.read, **options)
        classes, table = cityscapes.CLASSES, cityscapes.TABLE
    elif kind == "camvid":
        check_options(options, ("test_split",), "CamVid")
        train, test, notes = _splits(folder, camvid.read, **options)
        classes, ignored = camvid.classes_of(folder)
        table = lookup(len(classes), ignored)
    else:
        raise DataNotFoundError(f"{shown(folder)}: no label maps in a known format. {ACCEPTED}")
    return _checked(folder, kind, (train, test), classes, table, notes, on_bad, verify, progress)


def _checked(
    folder: Path,
    kind: str,
    splits: tuple[tuple[Pair, ...], tuple[Pair, ...]],
    classes: tuple[str, ...],
    table: Tensor,
    notes: tuple[str, ...],
    on_bad: OnBad,
    verify: bool,
    progress: Callable[[int, int], None] | None,
) -> SegmentationData:
    total = sum(map(len, splits))
    defects: list[Defect] = []
    kept = [LabelledFiles(pairs, table) for pairs in splits]
    for position, before in enumerate((0, len(splits[0]))):
        if verify:
            told = shifted(progress, before, total)
            kept[position], wrong = check_pairs(kept[position], told)
            defects += wrong
    if on_bad == "stop":
        stop(defects, shown(folder))
    for use, files in zip(("training", "testing"), kept, strict=True):
        if not len(files):
            first = f"; {len(defects):,} defects, the first: {defects[0]}" if defects else ""
            raise DataError(f"{shown(folder)}: no usable image is left for {use}{first}.")
    return SegmentationData(
        name=shown(folder.resolve().name),
        format=kind,
        train=kept[0],
        test=kept[1],
        classes=classes,
        fingerprint=fingerprint(*kept),
        defects=tuple(defects),
        notes=notes,
    )


Found = tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[str, ...]]


def _splits(
    folder: Path, read: Callable[[Path, str], tuple[Pair, ...]], test_split: str | None = None
) -> Found:
    train = read(folder, "train")
    tests = {name: read(folder, name) for name in ([test_split] if test_split else _TESTS)}
    name = next((name for name, pairs in tests.items() if pairs), None)
    if not train or name is None:
        raise DataNotFoundError(
            f"{shown(folder)}: no images of {'train' if not train else ' or '.join(tests)}."
        )
    return train, tests[name], (f"evaluating on {name!r}",)


def _voc(folder: Path, train_list: str | None = None, test_list: str | None = None) -> Found:
    trees = voc.trees(folder)
    lists = {tree: voc.lists_of(tree, "Segmentation") for tree in trees}
    have = sorted({name for names in lists.values() for name in names})
    augmented = [name for name in _AUGMENTED if name in have]
    found: list[tuple[Pair, ...]] = []
    notes = []
    for use in (train_list or (augmented or ["train"])[0], test_list or "val"):
        holding = [tree for tree in trees if use in lists[tree]]
        if not holding:
            raise DataNotFoundError(
                f"{shown(folder)}: no list ImageSets/Segmentation/{use}.txt; have: "
                f"{', '.join(have)}."
            )
        pairs = tuple(pair for tree in holding for pair in voc.read_label_maps(tree, use))
        found.append(pairs)
        notes.append(f"{use} of {', '.join(tree.name for tree in holding)}: {len(pairs):,} images")
    return found[0], found[1], tuple(notes)
