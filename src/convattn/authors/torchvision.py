"""pytorch/vision: the plain networks, for their pretrained weights."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from convattn.authors._mobilenet_v2 import nested_keys
from convattn.authors._resnet import DEPTHS, resnet_builder
from convattn.authors._source import Source
from convattn.models import create_model
from convattn.models.efficientnet import STAGES
from convattn.models.mobilenet_v3 import LARGE, SMALL, Row

__all__ = ["SOURCES"]

Keys = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_MODELS = "pytorch/vision:torchvision/models"


def _mobilenet_v2(
    num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2
) -> nn.Module:
    return create_model(
        "mobilenet_v2", num_classes=num_classes, width_mult=width_mult, dropout=dropout
    )


def _efficientnet_b0(num_classes: int = 1000, dropout: float = 0.2) -> nn.Module:
    return create_model("efficientnet_b0", num_classes=num_classes, dropout=dropout)


def _mobilenet_v3(size: str) -> Callable[..., nn.Module]:
    def build(num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2) -> nn.Module:
        return create_model(
            f"mobilenet_v3_{size}", num_classes=num_classes, width_mult=width_mult, dropout=dropout
        )

    return build


def _bottlenecks(paths: list[str], expands: list[bool], squeezes: list[bool], last: int) -> Keys:
    """Names of torchvision's inverted bottlenecks: "block" holds the parts that are there.

    Args:
        paths: of the blocks, from the first.
        expands: which of them have an expansion.
        squeezes: which of them have a Squeeze-and-Excitation.
        last: number of the head among the features.
    """

    def key(match: re.Match[str]) -> str:
        k, part, layer = int(match[1]), match[2], match[3]
        parts = ["expand"] * expands[k] + ["depthwise"] + ["se"] * squeezes[k] + ["project"]
        inner = layer if part == "se" else str(int(layer == "norm"))
        return f"features.{paths[k]}.block.{parts.index(part)}.{inner}"

    return (
        (r"stem\.conv", "features.0.0"),
        (r"stem\.norm", "features.0.1"),
        (r"blocks\.(\d+)\.(\w+)\.(\w+)", key),
        (r"head\.conv", f"features.{last}.0"),
        (r"head\.norm", f"features.{last}.1"),
    )


def _efficientnet_keys() -> Keys:
    paths = [f"{s}.{i}" for s, (*_, n) in enumerate(STAGES, 1) for i in range(n)]
    expands = [k > 0 for k in range(len(paths))]
    return (
        *_bottlenecks(paths, expands, [True] * len(paths), len(STAGES) + 1),
        (r"classifier", "classifier.1"),
    )


def _mobilenet_v3_keys(rows: tuple[Row, ...]) -> Keys:
    paths = [str(k + 1) for k in range(len(rows))]
    expands = [k > 0 for k in range(len(rows))]  # the first expands from 16 to 16: not at all
    squeezes = [row[3] for row in rows]
    return (
        *_bottlenecks(paths, expands, squeezes, len(rows) + 1),
        (r"hidden", "classifier.0"),
        (r"classifier", "classifier.3"),
    )


SOURCES = (
    *(Source((f"{_MODELS}/resnet.py:resnet{depth}",), resnet_builder(depth)) for depth in DEPTHS),
    Source((f"{_MODELS}/mobilenetv2.py:mobilenet_v2",), _mobilenet_v2, keys=nested_keys()),
    Source(
        (f"{_MODELS}/efficientnet.py:efficientnet_b0",),
        _efficientnet_b0,
        keys=_efficientnet_keys(),
    ),
    Source(
        (f"{_MODELS}/mobilenetv3.py:mobilenet_v3_large",),
        _mobilenet_v3("large"),
        keys=_mobilenet_v3_keys(LARGE),
    ),
    Source(
        (f"{_MODELS}/mobilenetv3.py:mobilenet_v3_small",),
        _mobilenet_v3("small"),
        keys=_mobilenet_v3_keys(SMALL),
    ),
)
