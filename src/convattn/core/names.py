"""Names: nearest matches for misspelt ones, and imports that name the extra to install."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType

from convattn.core.errors import MissingExtraError

__all__ = ["metric_name", "require", "suggest"]

_METRICS = {
    "top1": "top-1", "top5": "top-5", "iou": "IoU", "miou": "mIoU", "map": "mAP", "mar": "mAR",
    "voc07": "VOC07", "voc10": "VOC10",
}  # fmt: skip


def metric_name(name: str) -> str:
    """A metric as people write it: "top-1" for "top1", "mask mAP50" for "mask_map50"."""
    words = [re.fullmatch(r"(map|mar|)(.*)", word) for word in name.split("_")]
    return " ".join(
        _METRICS.get(word[1], "") + _METRICS.get(word[2], word[2]) for word in words if word
    )


def suggest(name: str, known: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """The tail of an error about an unknown name: the nearest of all, and the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), [*names, *aliases], n=1, cutoff=0.6)
    listed = ", ".join(names) or "none"
    return f"did you mean {near[0]!r}? (have: {listed})" if near else f"there are {listed}"


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtraError` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(
            f"this needs {module.split('.')[0]!r}, which is not installed. "
            f'Install it with: pip install "convattn[{extra}]"'
        ) from error
