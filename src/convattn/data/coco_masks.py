"""COCO's three encodings of a mask, by faster-coco-eval, a drop-in for the COCO tools.

(pycocotools 2.0.11 warns under NumPy 2 with each mask; the tests compare with it.)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from convattn.core.errors import DataError
from convattn.core.names import require

__all__ = ["decode", "encode"]


def decode(segmentation: Any, height: int, width: int) -> Tensor:
    """A `segmentation` as pixels.

    Args:
        segmentation: Polygons [[x0, y0, x1, y1, ...], ...] in pixels, or run lengths
            {"size": [H, W], "counts": list or compressed text}.
        height: H of the image.
        width: W of the image.

    Returns:
        bool (H, W).

    Raises:
        DataError: It is none of these, or of another size.
        MissingExtraError: faster-coco-eval is not installed (extra `detection`).
    """
    tools = require("faster_coco_eval.core.mask", "detection")
    if isinstance(segmentation, list):
        _check_polygons(segmentation)
        runs = tools.merge(tools.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation, dict) and {"size", "counts"} <= set(segmentation):
        if segmentation["size"] != [height, width]:
            raise DataError(
                f"run lengths for {segmentation['size']} (height, width); the image is "
                f"[{height}, {width}]"
            )
        runs = segmentation
        if isinstance(runs["counts"], list):
            _check_counts(runs["counts"], height * width)
            runs = tools.frPyObjects(runs, height, width)
    else:
        raise DataError("neither polygons nor run lengths with 'size' and 'counts'")
    try:
        return torch.from_numpy(tools.decode(runs)).bool()
    except Exception as error:  # of compressed text
        raise DataError(f"run lengths that cannot be decoded: {error}") from error


def encode(mask: Tensor) -> dict[str, Any]:
    """A mask, bool (H, W), as compressed run lengths {"size": [H, W], "counts": text}."""
    tools = require("faster_coco_eval.core.mask", "detection")
    numpy = require("numpy", "train")
    runs = tools.encode(numpy.asfortranarray(mask.to(torch.uint8).numpy()))
    return {"size": [*mask.shape], "counts": runs["counts"].decode("ascii")}


def _check_polygons(polygons: list[Any]) -> None:
    for polygon in polygons:
        # The tools take four numbers for a box.
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError("a polygon without three points (x, y)")
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in polygon):
            raise DataError("a polygon with values that are not finite numbers")


def _check_counts(counts: list[Any], pixels: int) -> None:
    if not all(isinstance(v, int) and v >= 0 for v in counts) or sum(counts) != pixels:
        raise DataError(f"run lengths that do not sum to the {pixels} pixels of the image")
