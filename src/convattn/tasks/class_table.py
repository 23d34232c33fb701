"""`classes.csv`: the scores of each class."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

__all__ = ["class_table"]


def class_table(scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> bytes:
    """CSV with a row for each class and a column for each name; empty where there is no score.

    Args:
        scores: of each class, by their names; counts are written as integers.
        names: of the scores, in order.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", *names])
    for label, own in scores.items():
        values = [own.get(name, "") for name in names]
        table.writerow([label, *(f"{v:.4f}" if isinstance(v, float) else v for v in values)])
    return text.getvalue().encode()
