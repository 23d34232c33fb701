"""What a report page holds and would load."""

from __future__ import annotations

import re
from html.parser import HTMLParser

__all__ = ["Page"]


class Page(HTMLParser):
    """Collects what a page would load, its ids, and whether every tag is closed."""

    void = {"meta", "link", "img", "br", "path", "use", "rect"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.refs: list[str] = re.findall(r"url\(#([^)]+)\)", text)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
                (self.refs if value.startswith("#") else self.loads).append(value.removeprefix("#"))
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag
