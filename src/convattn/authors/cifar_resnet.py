"""akamaster/pytorch_resnet_cifar10: the paper's ResNets for CIFAR-10, with published weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from convattn.authors._source import Source
from convattn.models import create_model

__all__ = ["SOURCES"]


def _builder(depth: int) -> Callable[..., nn.Module]:
    def build(num_classes: int = 10) -> nn.Module:
        return create_model(f"resnet{depth}", num_classes=num_classes)

    return build


SOURCES = tuple(
    Source(
        (f"akamaster/pytorch_resnet_cifar10:resnet.py:resnet{depth}",),
        _builder(depth),
        keys=((r"fc", "linear"),),
    )
    for depth in (20, 32, 44, 56, 110)
)
