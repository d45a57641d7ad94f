"""How is a row kept within one page of its file, so that no reader ever sees a part of it? Pure.

The kernel copies a write page by page and makes each visible when it is there: a line across the border of two pages
can be read half by a `tail -1` at that moment [ran: ext4, one read in a hundred of a file that is written all the
time]. So the last cell of the row before is filled up with blanks, which every reader of such a file takes off.
"""

from __future__ import annotations

_PAGE_BYTES = 4096
# The next row may be longer than the longest of this tick by so much.
_SPARE_BYTES = 64


def fill_up(rows: bytes, *, at: int, is_torn: bool = False) -> bytes:
    """`rows`, to be written at offset `at`, such that each, and the next to come, lies within a page.

    Args:
        rows: whole lines; those longer than a page stay as they are.
        at: where they are written.
        is_torn: a torn line stands before them, which is ended first.
    """
    lines = rows.splitlines(keepends=True)
    room = max(map(len, lines), default=0) + _SPARE_BYTES
    filled = [_line(b"\n", at=at, room=room)] if is_torn else []
    at += sum(map(len, filled))
    for line in lines:
        filled.append(_line(line, at=at, room=room))
        at += len(filled[-1])
    return b"".join(filled)


def _line(line: bytes, *, at: int, room: int) -> bytes:
    left = -(at + len(line)) % _PAGE_BYTES
    return line[:-1] + b" " * left + b"\n" if left < room <= _PAGE_BYTES else line
