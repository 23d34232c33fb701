"""Jongchan/attention-module: the ResNets with CBAM or BAM."""

from __future__ import annotations

from torch import nn

from convattn.authors._resnet import attention_last
from convattn.authors._source import Inside, Source
from convattn.authors.bam import SOURCES as BAM
from convattn.authors.cbam import SOURCES as CBAM
from convattn.core.checks import check_choice
from convattn.models import create_model

__all__ = ["SOURCES"]


def _residual_net(
    network_type: str, depth: int, num_classes: int, att_type: str | None
) -> nn.Module:
    check_choice("ResidualNet", "network_type", network_type, ("ImageNet", "CIFAR10", "CIFAR100"))
    check_choice("ResidualNet", "depth", depth, (18, 34, 50, 101))
    check_choice("ResidualNet", "att_type", att_type, ("CBAM", "BAM", None))
    return create_model(
        f"resnet{depth}",
        attention=att_type.lower() if att_type else "none",
        num_classes=num_classes,
        stem="imagenet" if network_type == "ImageNet" else "cifar",
    )


def _order(keys: list[str]) -> list[str]:
    """BAM is declared before the stages, CBAM after the shortcut."""
    first = ("conv1", "bn1", "bam")
    return sorted(attention_last(keys), key=lambda key: not key.startswith(first))


SOURCES = (
    Source(
        ("Jongchan/attention-module:MODELS/model_resnet.py:ResidualNet",),
        _residual_net,
        blocks=(
            Inside(r"(layer\d\.\d+)\.before_add", r"\1.cbam", CBAM[0]),
            Inside(r"stage_end\.0", "bam1", BAM[0]),
            Inside(r"stage_end\.1", "bam2", BAM[0]),
            Inside(r"stage_end\.2", "bam3", BAM[0]),
        ),
        order=_order,
    ),
)
