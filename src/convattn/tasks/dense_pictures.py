"""Pictures of predictions beside what was annotated."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convattn.core.names import require
from convattn.data.samples import IGNORED, DetectionSample, SegmentationSample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["draw_label_maps", "draw_objects", "shown", "side_by_side"]

_SHOWN = 4  # of the test images
_SIDE = 320  # of one picture on the sheet
_GAP = 6
_LETTERS = 14  # their height
_HEADING = 20
_WIDEST = 1600  # sheet of several networks


def shown(count: int) -> set[int]:
    """Indices of the test images to draw, far apart: neighbours are often frames of one film."""
    return {k * count // _SHOWN for k in range(_SHOWN)}


def draw_label_maps(samples: Sequence[SegmentationSample], found: Sequence[Tensor]) -> bytes:
    """A row for each sample: image, annotation, prediction; PNG."""
    rows = []
    for sample, prediction in zip(samples, found, strict=True):
        maps = [_coloured(sample.image, labels) for labels in (sample.mask, prediction)]
        rows.append([_picture(sample.image), *maps])
    return _sheet(rows)


def draw_objects(
    samples: Sequence[DetectionSample],
    found: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    threshold: float = 0.5,
) -> bytes:
    """A row for each sample: annotated objects, and detections scored `threshold` or more; PNG.

    Args:
        samples: what is annotated.
        found: boxes, labels, scores and perhaps masks, bool (n, H, W), of each.
        classes: names.
        threshold: least score drawn. An object smaller than its name is drawn without it.
    """
    rows = []
    for sample, each in zip(samples, found, strict=True):
        kept = each["scores"] >= threshold
        masks = each["masks"][kept] if "masks" in each else None
        names = [f"{classes[k]} {s:.2f}" for k, s in zip(
            each["labels"][kept].tolist(), each["scores"][kept].tolist(), strict=True
        )]  # fmt: skip
        own = [classes[k] for k in sample.labels.tolist()]
        rows.append([
            _objects(sample.image, sample.boxes, sample.labels, own, sample.masks),
            _objects(sample.image, each["boxes"][kept], each["labels"][kept], names, masks),
        ])  # fmt: skip
    return _sheet(rows)


def side_by_side(sheets: Mapping[str, bytes]) -> bytes:
    """The sheets of several networks on the same samples as one: a column for each; PNG.

    Args:
        sheets: of `draw_label_maps` or `draw_objects`, by the networks' names.
    """
    pillow, drawing = require("PIL.Image", "train"), require("PIL.ImageDraw", "train")
    pictures = {name: pillow.open(io.BytesIO(sheet)) for name, sheet in sheets.items()}
    first = next(iter(pictures.values()))
    step, height = _SIDE + _GAP, first.height
    shared = first.width // step  # columns before the prediction
    names = [*("image", "annotated")[-shared:], *pictures]
    top = _HEADING + 10
    whole = pillow.new("RGB", (len(names) * step - _GAP, height + top), "white")
    whole.paste(first.crop((0, 0, shared * step, height)), (0, top))
    for column, picture in enumerate(pictures.values(), shared):
        found = picture.crop((shared * step, 0, picture.width, height))
        whole.paste(found, (column * step, top))
    scale = min(1.0, _WIDEST / whole.width)
    whole = whole.resize((round(whole.width * scale), round(whole.height * scale)))
    draw = drawing.Draw(whole)
    for column, name in enumerate(names):
        draw.text((column * step * scale, 2), name, fill="black", font_size=_HEADING)
    return _png(whole)


def _colour(label: int) -> tuple[int, int, int]:
    """Of a class: neighbours differ (steps of the golden ratio round the hues); 0 is black."""
    if label in (0, IGNORED):
        return (0, 0, 0) if label == 0 else (255, 255, 255)
    r, g, b = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 1)
    return round(255 * r), round(255 * g), round(255 * b)


def _picture(image: Tensor) -> Image:
    pillow = require("PIL.Image", "train")
    return pillow.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _coloured(image: Tensor, labels: Tensor) -> Image:
    palette = torch.tensor([_colour(k) for k in range(256)])
    colours = palette[labels.long()].permute(2, 0, 1)
    return _picture((0.4 * image + 0.6 * colours).round().to(torch.uint8))


def _objects(
    image: Tensor, boxes: Tensor, labels: Tensor, names: Sequence[str], masks: Tensor | None
) -> Image:
    drawing = require("PIL.ImageDraw", "train")
    if masks is not None and len(masks):
        shade = image.clone()
        for mask, label in zip(masks, labels.tolist(), strict=True):
            colour = torch.tensor(_colour(label + 1), dtype=torch.float32)[:, None]
            shade[:, mask] = (0.5 * image[:, mask] + 0.5 * colour).to(torch.uint8)
        image = shade
    picture = _picture(image)
    scale = _SIDE / max(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    draw = drawing.Draw(picture)
    for box, label, name in zip((boxes * scale).tolist(), labels.tolist(), names, strict=True):
        fill = _colour(label + 1)
        draw.rectangle(box, outline=fill, width=2)
        left, top = (min(max(0, x), _SIDE - 8) for x in box[:2])
        frame = draw.textbbox((left + 3, top), name, font_size=_LETTERS)
        caption = (left, top, frame[2] + 3, frame[3] + 2)
        if _area(caption) < _area(box):  # else it would hide the object and its neighbours
            draw.rectangle(caption, fill=fill)
            draw.text((left + 3, top), name, fill="black", font_size=_LETTERS)
    return picture


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _sheet(rows: Sequence[Sequence[Image]]) -> bytes:
    pillow = require("PIL.Image", "train")
    cells = []
    for row in rows:
        scales = [_SIDE / max(picture.size) for picture in row]
        cells.append([
            p.resize((round(p.width * s), round(p.height * s)))
            for p, s in zip(row, scales, strict=True)
        ])  # fmt: skip
    heights = [max(p.height for p in row) for row in cells]
    width = max(len(row) for row in cells) * (_SIDE + _GAP) - _GAP
    sheet = pillow.new("RGB", (width, sum(heights) + _GAP * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(cells, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * (_SIDE + _GAP), top))
        top += height + _GAP
    return _png(sheet)


def _png(picture: Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "png")
    return data.getvalue()
