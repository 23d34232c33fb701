"""A synthetic grid of runs from a fixed seed, and a picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from synthetic_runs import runs_of

from convattn.compare.records import Run


@pytest.fixture(scope="session")
def grid() -> Callable[..., list[Run]]:
    """A grid with effects of the given size per label and a shared effect of the seed."""

    def build(
        effects: dict[str, float] | None = None, *, seeds: int = 3, noise: float = 0.004
    ) -> list[Run]:
        effects = effects or {"none": 0.0, "se": 0.008, "cbam": 0.012, "eca": 0.01, "ca": 0.022}
        rng = np.random.default_rng(20)
        shared = rng.normal(0, 0.006, seeds)
        own = rng.normal(0, noise, (len(effects), seeds))
        return runs_of(
            {
                label: [float(0.83 + effect + shared[s] + own[k, s]) for s in range(seeds)]
                for k, (label, effect) in enumerate(effects.items())
            }
        )

    return build


@pytest.fixture(scope="session")
def png() -> bytes:
    """A valid 3 by 2 PNG, made by hand."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + bytes((200, 40 * x, 90) * 1) * 3 for x in range(2))
    head = struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
