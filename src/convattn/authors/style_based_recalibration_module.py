"""hyunjaelee410/style-based-recalibration-module: the Style-based Recalibration Module."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.srm import SRM

__all__ = ["SOURCES"]


def _srm_layer(channel: int) -> SRM:
    return SRM(channel)


SOURCES = (
    Source(
        (
            "hyunjaelee410/style-based-recalibration-module:"
            "models/recalibration_modules.py:SRMLayer",
        ),
        _srm_layer,
    ),
)
