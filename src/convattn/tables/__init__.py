"""The papers' printed tables, row by row, and what our networks recompute of them.

The rows are data (`data/`, one file per paper): what was printed, where it was read, and the
network of ours that the row is about. Sizes and operations are recomputed; accuracies are shown as
published, and nothing here measures any.
"""

from __future__ import annotations

from convattn.tables.recompute import Recomputed, recompute
from convattn.tables.rows import PAPERS, Print, Published, published

__all__ = ["PAPERS", "Print", "Published", "Recomputed", "published", "recompute"]
