"""ZjjConan/SimAM: the parameter-free attention module and its networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from convattn.authors._mobilenet_v2 import nested_keys
from convattn.authors._resnet import DEPTHS
from convattn.authors._source import Source
from convattn.blocks.simam import SimAM
from convattn.core.checks import check_choice
from convattn.models import create_model

__all__ = ["SOURCES"]


def _simam(channels: int | None = None, e_lambda: float = 1e-4) -> SimAM:
    return SimAM(channels, e_lambda=e_lambda)


def _network(name: str, at: str, **fixed: Any) -> Callable[..., nn.Module]:
    def build(
        attention: str = "simam", e_lambda: float = 1e-4, num_classes: int = 1000
    ) -> nn.Module:
        check_choice(name, "attention", attention, ("simam",))
        return create_model(
            name,
            attention="simam",
            at=at,
            attention_args={"e_lambda": e_lambda},
            num_classes=num_classes,
            **fixed,
        )

    return build


_NETWORKS = "ZjjConan/SimAM:networks/imagenet"

SOURCES = (
    Source(("ZjjConan/SimAM:networks/attentions/simam_module.py:simam_module",), _simam),
    *(
        Source(
            (f"{_NETWORKS}/resnet.py:resnet{depth}",),
            _network(f"resnet{depth}", "after_conv2"),
            keys=((r"(layer\d\.\d+\.conv2)", r"\1.0"),),  # convolution and SimAM in a Sequential
        )
        for depth in DEPTHS
    ),
    Source(
        (f"{_NETWORKS}/mobilenetv2.py:mobilenet_v2",),
        _network("mobilenet_v2", "before_norm", dropout=0.0),
        keys=nested_keys(norm=2, classifier="classifier.0"),
    ),
)
