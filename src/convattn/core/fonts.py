"""Figures as PNG, with letters that matplotlib's own font lacks."""

from __future__ import annotations

import io
import warnings
from typing import Any

from convattn.core.names import require

__all__ = ["families", "png_of"]

# of Linux, macOS and Windows, for Chinese, Japanese, Korean and the scripts of India and Thailand
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "IPAexGothic", "NanumGothic", "Noto Sans", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Arial Unicode MS",
    "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic",
    "Nirmala UI", "Leelawadee UI",
)  # fmt: skip


def families() -> list[str]:
    """matplotlib's own font first, then those that are installed here of `FALLBACKS`."""
    installed = require("matplotlib.font_manager", "compare").fontManager.get_font_names()
    return ["sans-serif", *(name for name in FALLBACKS if name in installed)]


def png_of(figure: Any, **options: Any) -> bytes:
    """The figure as PNG; a letter that no font has is a box, and no news to the user."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        for text in (r"Glyph \d+ ", "Matplotlib currently does not support .* natively"):
            warnings.filterwarnings("ignore", text, UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None}, **options)
    return buffer.getvalue()
