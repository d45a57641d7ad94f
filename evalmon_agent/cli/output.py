"""Prints JSON and tables."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

Cell = tuple[str, str | None]
"""Its text, which is printable, and its colour, if it has one."""

_NARROWEST = 20
_GAP = "  "


def print_json(answer: Any) -> None:
    """A record, or a list of some, as JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=1).decode())


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, width: int | None) -> Iterator[str]:
    """The heading, a rule, and the rows; where `width` is too small for it the first column is folded."""
    texts = [columns, *([text for text, _ in row] for row in rows)]
    widths = [max(map(_cells, column)) for column in zip(*texts, strict=True)]
    if width is not None:
        others = sum(widths[1:]) + len(_GAP) * (len(widths) - 1)
        widths[0] = min(widths[0], max(width - others, _NARROWEST))
    yield _line([(column, None) for column in columns], widths)
    total = sum(widths) + len(_GAP) * (len(widths) - 1)
    yield "─" * (total if width is None else min(total, width))
    for row in rows:
        (name, colour), *others_of_row = row
        for number, part in enumerate(_folded(name, widths[0])):
            rest = others_of_row if number == 0 else ()
            yield _line([(part, colour), *rest], widths)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """The table as wide as the terminal lets it be; in a file or a pipe no row is broken, and nothing is coloured."""
    size = terminal_size()
    text = "\n".join(table_lines(columns, rows, width=size[0] if size else None))
    click.echo(text, color=False if "NO_COLOR" in os.environ else None)


def terminal_size() -> tuple[int, int] | None:
    """Columns and rows of the terminal that stdout is; None if it is not a terminal."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else None


def _line(cells: Sequence[Cell], widths: Sequence[int]) -> str:
    return _GAP.join(_padded(cell, width) for cell, width in zip(cells, widths, strict=False)).rstrip()


def _padded(cell: Cell, width: int) -> str:
    text, colour = cell
    padding = " " * (width - _cells(text))
    return (click.style(text, fg=colour) if colour else text) + padding


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)


def _folded(text: str, width: int) -> Iterator[str]:
    """The text in pieces that are no wider; most are one piece."""
    if _cells(text) <= width:
        yield text
        return
    piece = ""
    for char in text:
        if _cells(piece + char) > width:
            yield piece
            piece = ""
        piece += char
    yield piece
