"""Everything that is wrong with data, found before anything trains: `convattn data check`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from convattn.core.checks import check_choice
from convattn.core.errors import DataNotFoundError
from convattn.data.classification import ACCEPTED as IMAGES
from convattn.data.classification import open_classification
from convattn.data.defects import Defect, counted
from convattn.data.detection import ACCEPTED as BOXES
from convattn.data.detection import detection_format, open_detection
from convattn.data.formats import shards
from convattn.data.images import shown
from convattn.data.options import existing_folder
from convattn.data.samples import DetectionData, SegmentationData
from convattn.data.segmentation import ACCEPTED as LABEL_MAPS
from convattn.data.segmentation import open_segmentation, segmentation_format

__all__ = ["CheckReport", "DataTask", "check_data", "tasks_of"]

DataTask = Literal["classification", "detection", "segmentation", "instance"]
_ACCEPTED = {
    "classification": IMAGES,
    "detection": BOXES,
    "instance": BOXES,
    "segmentation": LABEL_MAPS,
}


@dataclass(frozen=True)
class CheckReport:
    """What was found in data read for one task.

    Attributes:
        task: The task.
        format: Of the files.
        train: Number of usable training images.
        test: Number of usable test images.
        objects: Number of objects in both, or None where there are no objects.
        classes: Class names.
        defects: What cannot be used; with `on_bad="skip"` it would be left out.
        notes: What else the user should know.
    """

    task: str
    format: str
    train: int
    test: int
    objects: int | None
    classes: tuple[str, ...]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        shortly = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        objects = "" if self.objects is None else f", {self.objects:,} objects"
        lines = [
            f"{self.task} ({self.format}): {self.train:,} training and {self.test:,} test images"
            f"{objects}, {len(self.classes)} classes: {shortly}",
            *(f"  {note}" for note in self.notes),
            f"  {len(self.defects):,} defects" + (f": {counted(self.defects)}" * any(self.defects)),
            *(f"    {defect}" for defect in self.defects),
        ]
        return "\n".join(lines)


def tasks_of(source: str | os.PathLike[str]) -> tuple[DataTask, ...]:
    """The tasks that the content of a source serves.

    Raises:
        DataNotFoundError: There is no such folder.
    """
    if str(source) == "scenes":
        return ("classification", "instance", "segmentation")
    folder = existing_folder(source, IMAGES)
    sharded = shards.task_of(folder)
    if sharded in _ACCEPTED:
        return (cast(DataTask, sharded),)
    boxes, label_maps = detection_format(folder), segmentation_format(folder)
    if boxes == "coco":  # whose label maps come from the same file
        return ("instance",)
    found: list[DataTask] = ["detection"] if boxes else []
    found += ["segmentation"] if label_maps else []
    return tuple(found) or ("classification",)


def check_data(
    source: str | os.PathLike[str],
    task: DataTask | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[CheckReport]:
    """Read all of a source, and report for each task that it serves.

    Args:
        source: "scenes" or a folder, as for training.
        task: Only for this task; COCO JSON is otherwise checked with masks if it has any.
        progress: Called with (done, total).
        **options: The data's own, as for training (`data_args`).

    Raises:
        DataNotFoundError: There is nothing there that could be read.
        DataError: The data are unusable as a whole.
        ArgumentError: An option or the task is none.
    """
    if task is not None:
        check_choice("check_data", "task", task, tuple(_ACCEPTED))
    reports = []
    for each in (task,) if task else tasks_of(source):
        shared: dict[str, Any] = {"on_bad": "skip", "progress": progress, **options}
        if each == "classification":
            reports.append(_images(source, shared))
            continue
        data: SegmentationData | DetectionData
        if each == "segmentation":
            data = open_segmentation(source, **shared)
        else:
            masks = {"detection": False, "instance": None if task is None else True}[each]
            data = open_detection(source, masks=masks, **shared)
        objects = None
        name: str = each
        if isinstance(data, DetectionData):
            objects = sum(s.objects(i) for s in (data.train, data.test) for i in range(len(s)))
            name = "boxes and masks" if data.masks else "boxes"
        reports.append(
            CheckReport(
                task=name,
                format=data.format,
                train=len(data.train),
                test=len(data.test),
                objects=objects,
                classes=data.classes,
                defects=data.defects,
                notes=data.notes,
            )
        )
    return reports


def _images(source: str | os.PathLike[str], options: dict[str, Any]) -> CheckReport:
    try:
        data = open_classification(source, **options)
    except DataNotFoundError as error:
        if "neither class folders" not in str(error):
            raise
        raise DataNotFoundError(
            f"{shown(source)}: no data in a known format.\nFor classification: {IMAGES}\n"
            f"For detection: {BOXES}\nFor segmentation: {LABEL_MAPS}"
        ) from error
    return CheckReport(
        task="classification",
        format="images",
        train=len(data.train),
        test=len(data.test),
        objects=None,
        classes=data.classes,
        defects=tuple(Defect(name, "unreadable image", cause) for name, cause in data.skipped),
        notes=data.notes,
    )
