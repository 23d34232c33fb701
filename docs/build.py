"""Turn the Markdown pages into a static site.

    python docs/build.py FOLDER

Every page becomes an HTML file at the same place under FOLDER, beginning at FOLDER/docs/index.html;
other files of the repository that a page links to are copied. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import itertools
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt  # comes with rich

ROOT = Path(__file__).resolve().parents[1]
STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; font: 1rem/1.55 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; }
pre { padding: .8rem; overflow-x: auto; background: rgb(128 128 128 / .12); }
img { max-width: 100%; }
code { font-size: .92em; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid rgb(128 128 128 / .4); text-align: left; }
"""


def sources() -> list[Path]:
    """The pages: docs/ and the texts at the root, relative to it."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """(as written, target relative to the root, fragment) of what a page links to or shows."""
    for token in _tokens(_reader().parse((ROOT / page).read_text(encoding="utf-8"))):
        target = str(token.attrs.get({"link_open": "href", "image": "src"}.get(token.type, ""), ""))
        if not target or re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        inside = os.path.normpath(page.parent / path) if path else str(page)
        yield target, Path(inside), fragment


def anchors(page: Path) -> set[str]:
    """The fragments that a page has: its headings as GitHub names them."""
    return set(_name_headings(_reader().parse((ROOT / page).read_text(encoding="utf-8"))))


def render(page: Path) -> str:
    """A page as HTML, its links to other pages as links to their HTML."""
    reader = _reader()
    tokens = reader.parse((ROOT / page).read_text(encoding="utf-8"))
    pages = set(sources())
    targets = {written: (path, fragment) for written, path, fragment in links(page)}
    for token in _tokens(tokens):
        path, fragment = targets.get(str(token.attrs.get("href", "")), (None, ""))
        if path in pages:
            shown = os.path.relpath(path.with_suffix(".html"), page.parent)
            token.attrs["href"] = shown + (f"#{fragment}" if fragment else "")
    _name_headings(tokens)
    body = reader.renderer.render(tokens, reader.options, {})
    found = re.search(r"^# (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    title = html.escape(found[1].replace("`", "") if found else page.stem)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def build(folder: Path) -> None:
    """Write the site."""
    pages = set(sources())
    for page in sorted(pages):
        target = folder / page.with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render(page), encoding="utf-8")
        for _, path, _ in links(page):
            if path not in pages and (ROOT / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, folder / path)


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


def _name_headings(tokens: list[Any]) -> list[str]:
    names = []
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            plain = re.sub(r"[^\w\- ]", "", inline.content.lower())
            opening.attrs["id"] = plain.replace(" ", "-")
            names.append(opening.attrs["id"])
    return names


def _tokens(tokens: list[Any]) -> Iterator[Any]:
    for token in tokens:
        yield token
        yield from _tokens(token.children or [])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(Path(sys.argv[1]))
