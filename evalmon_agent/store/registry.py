"""registry.jsonl: what was submitted or adopted, append-only, written under the lock."""

from __future__ import annotations

import msgspec

from evalmon_agent.errors import UnreadableError
from evalmon_agent.files.append import append_line
from evalmon_agent.files.private import read_private
from evalmon_agent.store import versioned
from evalmon_agent.tracking.registry import SCHEMA, Record

MAX_BYTES = 1024 * 1024 * 1024

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def append(path: str, record: Record) -> None:
    """Put one record on disk; call it under the lock."""
    append_line(path, msgspec.json.encode(record) + b"\n")


def read(path: str) -> list[Record]:
    """All records; a torn line, left by a kill, is skipped. Another schema: UnreadableError (78)."""
    return [record for line in _lines(path) for record in _decode(line, path=path)]


def torn_lines(path: str) -> int:
    """How many lines `read` skips."""
    return sum(not _decode(line, path=path) for line in _lines(path))


def _lines(path: str) -> list[bytes]:
    try:
        data = read_private(path, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return []
    if data is None:
        raise UnreadableError(f"{path}: too large to be a registry; move it away")
    return [line for line in data.split(b"\n") if line]


def _decode(line: bytes, *, path: str) -> list[Record]:
    record = versioned.decode(line, _decoder, path=path, schema=SCHEMA)
    return [] if record is None else [record]
