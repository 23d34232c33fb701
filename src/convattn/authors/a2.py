"""Double attention has no authors' code; the names are those of the formula's evaluation."""

from __future__ import annotations

from convattn.authors._source import Source
from convattn.blocks.a2 import A2

__all__ = ["SOURCES"]


def _a2(C: int, m: int, n: int, residual: bool = True) -> A2:
    return A2(C, hidden=m, maps=n, residual=residual)


SOURCES = (
    Source(
        ("(paper arXiv 1810.11579):formula:-",),
        _a2,
        keys=((r"gathered", "convA"), (r"gather", "convB"), (r"distribute", "convV")),
    ),
)
