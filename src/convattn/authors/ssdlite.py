"""houqb/ssdlite-pytorch-mobilenext: the detection backbone with Squeeze-and-Excitation."""

from __future__ import annotations

from torch import nn

from convattn.authors._mobilenet_v2 import after_depthwise, flat_keys
from convattn.authors._source import Inside, Source
from convattn.authors.senet import SEM
from convattn.core.checks import check_choice
from convattn.models import create_model

__all__ = ["SOURCES"]


def _sembv2(num_classes: int = 1000, width_mult: float = 1.0) -> nn.Module:
    # the first is unused by the authors too; their extra blocks take 1280 channels
    check_choice("SEMBV2", "width_mult <= 1", width_mult <= 1.0, (True,))
    return create_model(
        "mobilenet_v2_ssd",
        attention="se",
        attention_args={"reduction": 24, "act": "relu6"},
        width_mult=width_mult,
        expansions=(0.2, 0.25, 0.5, 0.25),
    )


_INNER = {"expand": 0, "depthwise": 3, "project": 7}

SOURCES = (
    Source(
        ("houqb/ssdlite-pytorch-mobilenext:ssd/modeling/backbone/se_mbv2.py:SEMBV2",),
        _sembv2,
        keys=(
            *flat_keys(attention=True),
            (
                r"extras\.(\d)\.(\w+)\.(conv|norm)",
                lambda m: f"extras.{m[1]}.conv.{_INNER[m[2]] + (m[3] == 'norm')}",
            ),
        ),
        blocks=(
            after_depthwise(SEM),
            Inside(r"extras\.(\d)\.after_depthwise", r"extras.\1.conv.6", SEM),
        ),
    ),
)
