"""Reads and appends to registry.jsonl: what was submitted or adopted, one JSON object a line, never rewritten."""

from __future__ import annotations

import msgspec

from evalmon_agent.errors import UnreadableError
from evalmon_agent.experiment import versioned
from evalmon_agent.files.private import Tail, append_line, read_tail
from evalmon_agent.tracking.registry import SCHEMA, Entries, Entry, Record

MAX_BYTES = 1024 * 1024 * 1024
_KEPT_BYTES = 256
"""How many bytes of what was read are kept: if the file no longer has them there, it was replaced or cut."""

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Ledger:
    """The registry of one experiment, read once; later reads take only what was appended since.

    A torn line, left by a kill, is skipped. A file that was replaced or cut is read again.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._begin()

    def _begin(self) -> None:
        self._entries = Entries()
        self._file = (0, 0)
        self._read_to = 0
        self._before = b""
        self._torn = 0
        self._ends_torn = False

    def append(self, *records: Record) -> None:
        """Write records in one write; call it under the lock. A kill leaves only whole records, the first ones."""
        if records:
            append_line(self.path, b"".join(msgspec.json.encode(record) + b"\n" for record in records))

    def entries(self) -> list[Entry]:
        """All entries as they are now. UnreadableError (78): written by a newer evalmon."""
        return list(self.index())

    def index(self) -> Entries:
        """The entries as they are now, to look up by token, name or job; the next read changes them."""
        try:
            tail = self._tail()
        except FileNotFoundError:
            self._begin()
        else:
            self._add(tail.data[len(self._before) :])
            self._file = tail.file
        return self._entries

    def torn_lines(self) -> int:
        """How many lines are skipped."""
        self.index()
        return self._torn + self._ends_torn

    def _tail(self) -> Tail:
        """The file's content from `_before` on."""
        tail = _read(self.path, self._read_to - len(self._before))
        is_same = tail.file == self._file and tail.data.startswith(self._before)
        if self._read_to == 0 or is_same:
            return tail
        self._begin()
        return _read(self.path, 0)

    def _add(self, new: bytes) -> None:
        end = new.rfind(b"\n") + 1
        lines = [line for line in new[:end].split(b"\n") if line]
        # A whole record counts even if a kill left it without a newline, which the next record adds.
        if end < len(new) and _decode(new[end:], path=self.path) is not None:
            lines.append(new[end:])
            end = len(new)
        records = [_decode(line, path=self.path) for line in lines]
        for record in records:
            if record is not None:
                self._entries.add(record)
        self._torn += records.count(None)
        self._ends_torn = end < len(new)
        self._read_to += end
        self._before = (self._before + new[:end])[-_KEPT_BYTES:]


def _read(path: str, offset: int) -> Tail:
    tail = read_tail(path, offset, max_bytes=MAX_BYTES)
    if tail is None:
        raise UnreadableError(f"{path}: too large to be a registry; move it away")
    return tail


def _decode(line: bytes, *, path: str) -> Record | None:
    return versioned.decode(line, _decoder, path=path, schema=SCHEMA)
