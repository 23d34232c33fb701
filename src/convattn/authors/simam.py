"""ZjjConan/SimAM: the parameter-free attention module."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.simam import SimAM

__all__ = ["SOURCES"]


def _simam(channels: int | None = None, e_lambda: float = 1e-4) -> SimAM:
    return SimAM(channels, e_lambda=e_lambda)


SOURCES = (Source(("ZjjConan/SimAM:networks/attentions/simam_module.py:simam_module",), _simam),)
