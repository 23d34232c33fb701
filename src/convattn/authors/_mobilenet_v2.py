"""The two ways in which authors name the layers of a MobileNetV2."""

from __future__ import annotations

import re
from collections.abc import Callable

from convattn.authors._source import Inside, Source

__all__ = ["Keys", "after_depthwise", "before_add", "flat_keys", "nested_keys"]

Keys = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_BLOCK = r"blocks\.(\d+)"
_STEM: Keys = ((r"stem\.conv", "features.0.0"), (r"stem\.norm", "features.0.1"))


def flat_keys(*, attention: bool, classifier: str = "classifier.1") -> Keys:
    """Names of d-li14/mobilenetv2.pytorch: all layers of a block in one Sequential.

    Args:
        attention: whether there are blocks behind the depthwise convolutions.
        classifier: name of the last layer.
    """

    def key(match: re.Match[str]) -> str:
        first = 0 if match[1] == "0" else 3  # the first block has no expansion and no attention
        index = {"expand": 0, "depthwise": first, "project": first + 3}[match[2]]
        index += match[3] == "norm"
        index += match[2] == "project" and attention and first > 0
        return f"features.{int(match[1]) + 1}.conv.{index}"

    return (
        *_STEM,
        (rf"{_BLOCK}\.(\w+)\.(conv|norm)", key),
        (r"head\.conv", "conv.0"),
        (r"head\.norm", "conv.1"),
        (r"classifier", classifier),
    )


def nested_keys(*, norm: int = 1, classifier: str = "classifier.1") -> Keys:
    """Names of torchvision: convolution, norm and activation in a Sequential of their own.

    Args:
        norm: index of the norm of depthwise convolutions there.
        classifier: name of the last layer.
    """

    def key(match: re.Match[str]) -> str:
        first = 0 if match[1] == "0" else 1
        if match[2] == "project":
            inner = f"{first + 1 + (match[3] == 'norm')}"
        elif match[2] == "depthwise":
            inner = f"{first}.{norm if match[3] == 'norm' else 0}"
        else:
            inner = f"0.{int(match[3] == 'norm')}"
        return f"features.{int(match[1]) + 1}.conv.{inner}"

    return (
        *_STEM,
        (rf"{_BLOCK}\.(\w+)\.(conv|norm)", key),
        (r"head\.conv", "features.18.0"),
        (r"head\.norm", "features.18.1"),
        (r"classifier", classifier),
    )


def after_depthwise(block: Source) -> Inside:
    """Blocks behind the depthwise convolutions, in the flat names."""
    return Inside(
        rf"{_BLOCK}\.after_depthwise", lambda m: f"features.{int(m[1]) + 1}.conv.6", block
    )


def before_add(block: Source) -> Inside:
    """Blocks behind the projections, in the nested names."""

    def name(match: re.Match[str]) -> str:
        return f"features.{int(match[1]) + 1}.conv.{3 if match[1] == '0' else 4}"

    return Inside(rf"{_BLOCK}\.before_add", name, block)
