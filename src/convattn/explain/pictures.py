"""Pictures of gate maps: one overlay, and a labelled grid as PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convattn.core.checks import check_positive
from convattn.core.errors import ArgumentError, InputError
from convattn.core.fonts import families, png_of
from convattn.core.names import require
from convattn.explain.colours import heat_colours
from convattn.explain.gates import GateMap

__all__ = ["choose_columns", "overlay", "picture_grid"]

_INK, _MUTED, _CARD = "#1b1f24", "#646c76", "#ffffff"
_RIGHT, _WRONG = "#00734f", "#b3261e"
_FLAT = 1e-4  # relative spread below which a map is level: float32 rounding would be all it shows
_LINE = 20  # characters of a column's title that fit above a picture

# of the grid, in inches
_CELL, _GAP, _BOTTOM, _MARGIN = 1.28, 0.09, 0.44, 0.12
_TITLE_LINE, _LETTER = 0.13, 0.062


def overlay(
    image: Tensor,
    map: Tensor,
    *,
    limits: tuple[float, float] | None = None,
    strength: float = 0.65,
) -> Tensor:
    """Lay a map over an image as heat.

    The image is shown in grey underneath, so that every colour is the map's. Where the limits
    differ by less than 0.01 %, the map is taken as level and gets the middle of the scale.

    Args:
        image: uint8 (3, H, W), RGB.
        map: float (h, w); brought to (H, W) by bilinear interpolation.
        limits: values shown as the lowest and the highest colour; None for the map's own.
        strength: of the heat, from 0 (image only) to 1 (heat only).

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: image or map has another shape or type.
        ArgumentError: strength or limits out of range.
    """
    _check_image(image)
    if map.dim() != 2 or not map.is_floating_point() or map.numel() == 0:
        raise InputError(
            f"overlay: map must be floating point (h, w), got {map.dtype} {tuple(map.shape)}"
        )
    if not 0 <= strength <= 1:
        raise ArgumentError(f"overlay: strength must lie between 0 and 1, got {strength!r}")
    low, high = limits or (map.min().item(), map.max().item())
    if not low <= high:  # also refuses NaN
        raise ArgumentError(f"overlay: limits must be (low, high) numbers, got {(low, high)!r}")
    size = (image.shape[1], image.shape[2])
    fine = F.interpolate(map.float()[None, None].cpu(), size, mode="bilinear")[0, 0]
    flat = _is_flat(low, high)
    level = torch.full_like(fine, 0.5) if flat else (fine - low) / (high - low)
    heat = heat_colours()[(level.clamp(0, 1) * 255).round().long()].float()  # (H, W, 3)
    luma = torch.tensor([0.299, 0.587, 0.114])
    grey = (image.cpu().float().permute(1, 2, 0) @ luma)[..., None]
    return (strength * heat + (1 - strength) * grey).round().clamp(0, 255).to(torch.uint8)


def _check_image(image: Tensor) -> None:
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3:
        raise InputError(
            f"an image to draw on must be uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}"
        )


def choose_columns(maps: Sequence[GateMap], count: int = 4) -> dict[str, Tensor]:
    """A few layers, spread evenly from the first to the last, as columns of a grid.

    Args:
        maps: from `gate_maps`.
        count: how many at most.

    Returns:
        Title (path and map size) -> maps (N, h, w).
    """
    check_positive("choose_columns", "count", count)
    last = len(maps) - 1
    spread = [last] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]
    chosen = [maps[i] for i in sorted(set(spread))] if maps else []
    return {f"{_wrap(m.path)}\n{m.map.shape[-2]} × {m.map.shape[-1]}": m.map for m in chosen}


def _wrap(path: str) -> str:
    """Broken behind dots, so that it fits above a picture."""
    lines = [""]
    for name in path.split("."):
        joined = f"{lines[-1]}.{name}" if lines[-1] else name
        if len(joined) <= _LINE or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(name)
    return "\n".join(lines)


def picture_grid(
    images: Tensor,
    columns: Mapping[str, Tensor],
    *,
    labels: Sequence[tuple[str, str]] | None = None,
    transparent: bool = False,
    dpi: int = 160,
) -> bytes:
    """A grid as PNG: a row per image, the input first, then its map in each column.

    All rows of a column share one scale, given by the bar below it, and may be compared.

    Args:
        images: uint8 (N, 3, H, W), RGB.
        columns: title -> maps (N, h, w); `choose_columns` makes them of `gate_maps`.
        labels: true and predicted class of each image, or None.
        transparent: no white card behind; the text is dark in any case.
        dpi: pixels per inch; a picture is 1.28 inches wide.

    Raises:
        InputError: images or maps of other shapes.
        ArgumentError: labels or columns do not fit the images.
        MissingExtraError: matplotlib is not installed.
    """
    _check_grid(images, columns, labels)
    matplotlib = require("matplotlib", "compare")
    figures = require("matplotlib.figure", "compare")
    rows, across = len(images), 1 + len(columns)
    cell_height = _CELL * min(2.0, max(0.5, images.shape[2] / images.shape[3]))
    longest = max((len(f"predicted {max(label, key=len)} ✓") for label in labels or ()), default=0)
    left = _MARGIN + (longest * _LETTER + 0.1 if labels else 0.0)
    over = 0.17 + _TITLE_LINE * max(title.count("\n") + 1 for title in columns)
    width = left + across * _CELL + (across - 1) * _GAP + _MARGIN
    height = over + rows * cell_height + (rows - 1) * _GAP + _BOTTOM
    text = {"font.family": families(), "font.size": 7.5, "text.color": _INK}
    with matplotlib.rc_context(text):
        figure = figures.Figure(figsize=(width, height), dpi=dpi, facecolor=_CARD)

        def axes(column: int, top: float, high: float) -> Any:
            x = left + column * (_CELL + _GAP)
            return figure.add_axes(
                (x / width, 1 - (top + high) / height, _CELL / width, high / height)
            )

        for j, title in enumerate(("input", *columns)):
            figure.text(
                (left + j * (_CELL + _GAP) + _CELL / 2) / width,
                1 - (over - 0.09) / height,
                title,
                ha="center",
                va="baseline",
                linespacing=1.25,
            )
        for j, maps in enumerate(columns.values(), 1):
            _bar(axes(j, height - _BOTTOM + 0.08, 0.08), maps)
        for i, image in enumerate(images):
            top = over + i * (cell_height + _GAP)
            pictures = [image.cpu().permute(1, 2, 0)]
            pictures += [overlay(image, m[i], limits=_limits(m)) for m in columns.values()]
            for j, picture in enumerate(pictures):
                _show(axes(j, top, cell_height), picture)
            if labels:
                _label(
                    figure, labels[i], (left - 0.1) / width, 1 - (top + cell_height / 2) / height
                )
        return png_of(figure, transparent=transparent)


def _check_grid(
    images: Tensor, columns: Mapping[str, Tensor], labels: Sequence[tuple[str, str]] | None
) -> None:
    if images.dim() != 4 or len(images) == 0:
        raise InputError(f"picture_grid: images must be (N, 3, H, W), got {tuple(images.shape)}")
    _check_image(images[0])
    if not columns:
        raise ArgumentError("picture_grid: columns must hold at least one map; see choose_columns")
    for title, maps in columns.items():
        if maps.dim() != 3 or len(maps) != len(images):
            raise InputError(
                f"picture_grid: column {title!r} must be ({len(images)}, h, w), one map per "
                f"image, got {tuple(maps.shape)}"
            )
    if labels is not None and len(labels) != len(images):
        raise ArgumentError(
            f"picture_grid: {len(images)} images need as many labels, got {len(labels)}"
        )


def _limits(maps: Tensor) -> tuple[float, float]:
    return maps.min().item(), maps.max().item()


def _is_flat(low: float, high: float) -> bool:
    return high - low <= _FLAT * max(abs(low), abs(high))


def _show(axes: Any, picture: Tensor) -> None:
    axes.imshow(picture.numpy(), interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _bar(axes: Any, maps: Tensor) -> None:
    """The scale of colours and the column's lowest and highest value; one value where level."""
    low, high = _limits(maps)
    colours = heat_colours()
    if _is_flat(low, high):
        colours, ends = colours[128:129], [(0.5, f"{(low + high) / 2:.3f} everywhere", "center")]
    else:  # as many digits as tell the two ends apart
        digits = min(6, max(2, 1 - math.floor(math.log10(high - low))))
        ends = [(0.0, f"{low:.{digits}f}", "left"), (1.0, f"{high:.{digits}f}", "right")]
    axes.imshow(colours[None].numpy(), aspect="auto")
    for x, text, side in ends:
        axes.text(x, -0.35, text, ha=side, va="top", transform=axes.transAxes, color=_MUTED)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _label(figure: Any, label: tuple[str, str], x: float, y: float) -> None:
    true, predicted = label
    inches = figure.get_size_inches()[1]
    colour = _RIGHT if true == predicted else _WRONG
    mark = "✓" if true == predicted else "✗"
    step = 0.17 / inches
    own = {"ha": "right", "va": "center", "parse_math": False}  # a name may hold a $
    figure.text(x, y + step / 2, f"true {true}", size=8.5, **own)
    figure.text(x, y - step / 2, f"predicted {predicted} {mark}", color=colour, **own)
