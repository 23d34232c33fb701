"""What the authors' ResNets share: torchvision's names, with a block in each residual block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from convattn.authors._source import Inside, Source
from convattn.models import create_model

__all__ = ["DEPTHS", "attention_last", "in_blocks", "resnet_builder"]

DEPTHS = (18, 34, 50, 101, 152)


def in_blocks(name: str, block: Source) -> tuple[Inside, ...]:
    """Blocks before the sum, called `name` in the authors' residual blocks."""
    return (Inside(r"(layer\d\.\d+)\.before_add", rf"\1.{name}", block),)


def attention_last(keys: list[str]) -> list[str]:
    """The order of authors who declare the attention after the shortcut."""
    blocks: dict[str, list[str]] = {}
    for key in keys:
        blocks.setdefault(".".join(key.split(".")[:2]), []).append(key)

    def is_attention(key: str) -> bool:
        return not "".join(key.split(".")[2:3]).startswith(("conv", "bn", "downsample"))

    return [key for block in blocks.values() for key in sorted(block, key=is_attention)]


def resnet_builder(depth: int, attention: str = "none", **fixed: Any) -> Callable[..., nn.Module]:
    """A function of the authors that takes `num_classes` alone."""

    def build(num_classes: int = 1000) -> nn.Module:
        return create_model(f"resnet{depth}", attention=attention, num_classes=num_classes, **fixed)

    return build
