"""Pictures of a run's folder; left out where matplotlib is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from convattn.core.errors import MissingExtraError
from convattn.core.files import write_atomic
from convattn.core.fonts import families, png_of
from convattn.core.names import metric_name, require

__all__ = ["write_confusion", "write_curves"]

MANY = 40  # from so many classes on, ticks and numbers would not be legible


def _figure(width: float, height: float) -> Any:
    try:
        return require("matplotlib.figure", "compare").Figure((width, height), layout="constrained")
    except MissingExtraError:
        return None


def write_curves(
    path: Path, history: Sequence[dict[str, Any]], metrics: Sequence[str] = ("top1", "top5")
) -> None:
    """Losses against epochs, and beside them metrics from 0 to 1."""
    figure = _figure(9, 3.5)
    if figure is None:
        return
    left, right = figure.subplots(1, 2)
    for axes, names in ((left, ("train_loss", "loss")), (right, metrics)):
        for name in names:
            rows = [row for row in history if name in row]
            if rows:
                epochs = [row["epoch"] for row in rows]
                scale = 1 if "loss" in name else 100
                label = {"loss": "test loss", "train_loss": "training loss"}.get(name)
                label = label or metric_name(name)
                axes.plot(epochs, [scale * row[name] for row in rows], "o-", ms=3, label=label)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    left.set_ylabel("loss")
    right.set_ylabel("on the test images, %")
    write_atomic(path, png_of(figure, dpi=120))


def write_confusion(path: Path, confusion: Tensor, classes: Sequence[str]) -> None:
    """Share of each class's images by predicted class."""
    side = min(12.0, 3 + 0.4 * len(classes))
    figure = _figure(side, side)
    if figure is None:
        return
    axes = figure.subplots()
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.tolist(), cmap="Blues", vmin=0, vmax=1)
    axes.set_title("share of each class's test images, %", fontsize=10)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= MANY:
        rotation = 90 if len(max(classes, key=len)) > 2 else 0
        text = {"parse_math": False, "fontfamily": families()}  # a name may hold a $
        axes.set_xticks(range(len(classes)), classes, rotation=rotation, **text)
        axes.set_yticks(range(len(classes)), classes, **text)
        for row, values in enumerate(shares.tolist()):
            for column, share in enumerate(values):
                if share >= 0.005:
                    colour = "white" if share > 0.5 else "black"
                    axes.text(
                        column, row, f"{100 * share:.0f}", ha="center", va="center",
                        color=colour, fontsize=8,
                    )  # fmt: skip
    write_atomic(path, png_of(figure, dpi=120))
