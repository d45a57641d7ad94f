"""Which texts of sacct's output are rows: lines that belong together, cut into named columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from evalmon_agent.words.job_id import split_step

Row = Mapping[str, str]

# A row that starts must show these on its first line, where they are asked for: a line `123` inside a
# job's name is no row.
_ANCHORS = ("JobID", "JobIDRaw", "State")

_LINE = re.compile(r"[^\n]+")
# What one job's texts may hold; a name has no more.
_MAX_LINES = 1000


def read_rows(text: str, *, fields: Sequence[str], delimiter: str) -> Iterator[Row | None]:
    """The rows in order, None for each that cannot be read; a header line is passed over.

    sacct escapes nothing. A line that starts no row goes on with the one above it: where that one lacks
    columns, in the middle of it; otherwise in its last column, unless it looks like the torn start of a row.
    """
    anchors = [fields.index(name) for name in _ANCHORS if name in fields]
    header = list(fields)
    open_lines: list[str] = []
    columns = 0
    for match in _LINE.finditer(text):
        line = match[0]
        cells = line.split(delimiter)
        if cells[: len(header)] == header:
            continue
        if _starts_row(cells, anchors):
            if open_lines:
                yield _named("\n".join(open_lines), fields, delimiter)
            open_lines, columns = [line], len(cells)
        elif 0 < len(open_lines) < _MAX_LINES and (columns < len(fields) or not _is_torn(cells, anchors)):
            open_lines.append(line)
            columns += len(cells) - 1
        elif line.strip():
            yield None
    if open_lines:
        yield _named("\n".join(open_lines), fields, delimiter)


def _starts_row(cells: list[str], anchors: list[int]) -> bool:
    return len(cells) > max(anchors) and _is_id(cells[anchors[0]])


def _is_torn(cells: list[str], anchors: list[int]) -> bool:
    return len(cells) > 1 and anchors[0] < len(cells) and _is_id(cells[anchors[0]])


def _is_id(text: str) -> bool:
    """Whether the text names a job, a step or a range of pending tasks, in full or cut."""
    head, bracket, tasks = text.partition("_[")
    if bracket:
        return head.isdecimal() and head.isascii() and not set(tasks) - set("0123456789,-:%.]")
    return split_step(text) is not None


def _named(record: str, fields: Sequence[str], delimiter: str) -> Row | None:
    cells = record.split(delimiter, len(fields))
    if len(cells) > len(fields):
        # Too many: without -P each line ends in a delimiter; with it, the name at the end holds some.
        more = cells.pop()
        cells[-1] += delimiter + more if more else ""
    return dict(zip(fields, cells, strict=True)) if len(cells) == len(fields) else None
