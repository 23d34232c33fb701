"""zhoudaquan/rethinking_bottleneck_design, and yitu-opensource/MobileNeXt: MobileNeXt."""

from __future__ import annotations

import re

from torch import nn

from convattn.authors._source import Source
from convattn.models import create_model
from convattn.models.mobilenext import STAGES

__all__ = ["KEYS", "SOURCES"]


def _mnext(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    return create_model("mobilenext", num_classes=num_classes, width_mult=width_mult)


# whether each block starts with a depthwise convolution
_WHOLE = [
    i > 0 or t == 2 or (repeats == 1 and stride == 1)
    for t, _, repeats, stride in STAGES
    for i in range(repeats)
]


def _key(match: re.Match[str]) -> str:
    """Index of a layer in the authors' Sequential; activations count."""
    k, part, layer = int(match[1]), match[2], match[3]
    index = {"depthwise": 0, "reduce": 3, "expand": 5, "last_depthwise": 8}[part]
    return f"features.{k + 1}.conv.{index - (0 if _WHOLE[k] else 3) + (layer == 'norm')}"


KEYS = (
    (r"stem\.conv", "features.0.0"),
    (r"stem\.norm", "features.0.1"),
    (r"blocks\.(\d+)\.(\w+)\.(\w+)", _key),
    (r"classifier", "classifier.1"),
)

_FILE = "mobilenext/codebase/models/mnext.py:mnext"

SOURCES = (
    Source(
        (f"zhoudaquan/rethinking_bottleneck_design:{_FILE}", f"yitu-opensource/MobileNeXt:{_FILE}"),
        _mnext,
        keys=KEYS,
    ),
)
