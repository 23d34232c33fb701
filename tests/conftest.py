"""What all tests share: where the oracles lie, and one thread so that timings stay even."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# the whole set beside the repository where it is at hand, else the small copy in it
GOLDEN = SHARED / "golden" if (SHARED / "golden").is_dir() else ROOT / "tests" / "golden"

torch.set_num_threads(1)


def golden_cases() -> list[dict[str, Any]]:
    """Entries of the block manifest whose arrays are at hand."""
    manifest = json.loads((GOLDEN / "blocks.json").read_text())
    return [c for c in manifest["cases"] if (GOLDEN / "blocks" / c["file_name"]).is_file()]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
