"""Reads a page as a browser would: its elements, their attributes and the visible text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "wbr", "link", "img", "input", "hr"})
APART = frozenset({"td", "th", "dt", "dd", "p", "li", "h1", "h2", "h3"})


class Page(HTMLParser):
    """The elements in order; ValueError for one that is closed without being open, or left open."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        if self._open:
            raise ValueError(f"left open: {self._open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open.pop() != tag:
            raise ValueError(f"</{tag}> closes another element")
        if tag in APART:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All visible text, with single blanks."""
        return " ".join("".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.elements for key, value in attrs.items() if key == name]

    def count(self, tag: str) -> int:
        return sum(element == tag for element, _ in self.elements)
