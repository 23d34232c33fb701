"""d-li14: the plain MobileNetV2, from which the CA authors' descends, and MobileNetV3."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor, nn

from convattn.authors._mobilenet_v2 import flat_keys
from convattn.authors._source import Source
from convattn.models import create_model

__all__ = ["SOURCES"]


def _mobilenetv2(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    return create_model("mobilenet_v2", num_classes=num_classes, width_mult=width_mult, dropout=0.0)


def _mobilenetv3(size: str) -> Callable[..., nn.Module]:
    def build(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
        return create_model(
            f"mobilenet_v3_{size}",
            variant="d_li14",
            num_classes=num_classes,
            width_mult=width_mult,
        )

    return build


def _v3_key(match: re.Match[str]) -> str:
    """Index of a layer in the authors' Sequential; activations count, also those left out."""
    first = match[1] == "0"  # the block without expansion; its Squeeze-and-Excitation comes later
    index = {"expand": 0, "depthwise": 3, "se": 5, "project": 7}[match[2]]
    index += first and match[2] == "se"
    inner = {"conv": "", "norm": "", "fc1": ".fc.0", "fc2": ".fc.2"}[match[3]]
    index += match[3] == "norm"
    return f"features.{int(match[1]) + 1}.conv.{index - 3 * first}{inner}"


def _linear(key: str, tensor: Tensor) -> Tensor:
    """The Squeeze-and-Excitation's 1x1 convolutions as linear layers."""
    return tensor.flatten(1) if ".se.fc" in key and tensor.dim() == 4 else tensor


SOURCES = (
    Source(
        ("d-li14/mobilenetv2.pytorch:models/imagenet/mobilenetv2.py:mobilenetv2",),
        _mobilenetv2,
        keys=flat_keys(attention=False, classifier="classifier"),
    ),
    *(
        Source(
            (f"d-li14/mobilenetv3.pytorch:mobilenetv3.py:mobilenetv3_{size}",),
            _mobilenetv3(size),
            keys=(
                (r"stem\.conv", "features.0.0"),
                (r"stem\.norm", "features.0.1"),
                (r"blocks\.(\d+)\.(\w+)\.(\w+)", _v3_key),
                (r"head\.conv", "conv.0"),
                (r"head\.norm", "conv.1"),
                (r"hidden", "classifier.0"),
                (r"classifier", "classifier.3"),
            ),
            shape=_linear,
        )
        for size in ("large", "small")
    ),
)
