"""Where the oracles lie: the whole set beside the repository if at hand, else the small copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["GOLDEN", "ROOT", "SHARED", "golden_cases"]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
GOLDEN = SHARED / "golden" if (SHARED / "golden").is_dir() else ROOT / "tests" / "golden"


def golden_cases() -> list[dict[str, Any]]:
    """Entries of the block manifest whose arrays are at hand."""
    manifest = json.loads((GOLDEN / "blocks.json").read_text())
    return [c for c in manifest["cases"] if (GOLDEN / "blocks" / c["file_name"]).is_file()]
