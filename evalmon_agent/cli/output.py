"""Prints JSON, tables, and the line that an interrupted command ends with."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from evalmon_agent.errors import StoppedError

_NARROWEST = 20
_GAP = "  "
_MORE = " \\"
_COLOURED = "\x1b"


@contextlib.contextmanager
def interruptible(message: str | Callable[[], str]) -> Iterator[None]:
    """Make Ctrl-C one line on stderr: what was done, what was not, and what to do next; `message` may be a call."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        raise StoppedError(f"interrupted: {message if isinstance(message, str) else message()}") from None


def print_json(answer: Any) -> None:
    """A record, or a list of some, as JSON."""
    import msgspec  # noqa: PLC0415 (4 ms, and a table needs none of it)

    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=1).decode())


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None, optional: Sequence[str] = ()
) -> Iterator[str]:
    """The heading, a rule, and the rows, whose texts are printable but for their colours. An empty column is left out.

    Where `width` is too small, `optional` columns are left out, too, the first of them first. A text of the first
    column that is still too long has a line of its own: it is not broken.
    """
    widths = {place: max(map(_cells, column)) for place, column in enumerate(zip(columns, *rows, strict=True))}
    for place in range(1, len(columns)):
        if rows and not any(row[place] for row in rows):
            del widths[place]
    for place in map(columns.index, optional):
        if width is not None and _total(widths) > width:
            widths.pop(place, None)
    if width is not None:
        widths[0] = min(widths[0], max(width - _total(widths) + widths[0], _NARROWEST))
    yield _line(columns, widths)
    yield "─" * (_total(widths) if width is None else min(_total(widths), width))
    for row in rows:
        if _cells(row[0]) <= widths[0]:
            yield _line(row, widths)
        else:
            yield _line(row[:1], {0: 0})
            if any(row[1:]):
                yield _line(["", *row[1:]], widths)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, optional: Sequence[str] = ()) -> None:
    """The table as wide as the terminal lets it be; a file or a pipe gets every column."""
    size = terminal_size()
    print_text("\n".join(table_lines(columns, rows, width=size[0] if size else None, optional=optional)))


def print_text(text: str) -> None:
    """Text that may be coloured: without colours in a file or a pipe, or where NO_COLOR is set."""
    click.echo(text, color=False if "NO_COLOR" in os.environ else None)


def wrapped(text: str, width: int | None, *, indent: str = "") -> list[str]:
    """The lines of a text; no word of it is broken."""
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def in_bold(lines: Sequence[str]) -> list[str]:
    """The same lines, bold."""
    return [click.style(line, bold=True) for line in lines]


def wrapped_command(command: str, width: int | None, *, indent: str) -> list[str]:
    """The lines of a command for a shell, each but the last with a backslash, so that they can be copied together."""
    if width is None or len(indent) + len(command) <= width:
        return [indent + command]
    lines = [""]
    for part in _options_with_values(command):
        if lines[-1] and len(indent) + len(lines[-1]) + len(part) + len(" ") + len(_MORE) > width:
            lines.append("  ")
        lines[-1] += f" {part}" if lines[-1].strip() else part
    return [f"{indent}{line}{_MORE * (line is not lines[-1])}" for line in lines]


def _options_with_values(command: str) -> list[str]:
    """The words of a command, quoted; an option together with its value."""
    words = shlex.split(command)
    parts: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before.startswith("--") and not word.startswith("--"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    return parts


def terminal_size() -> os.terminal_size | None:
    """Columns and rows of the terminal that stdout is; None if it is not a terminal."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else None


def _line(cells: Sequence[str], widths: Mapping[int, int]) -> str:
    padded = (cells[place] + " " * (width - _cells(cells[place])) for place, width in widths.items())
    return _GAP.join(padded).rstrip()


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes, whatever its colour."""
    text = click.unstyle(text) if text.startswith(_COLOURED) else text
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)
