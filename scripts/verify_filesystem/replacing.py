"""Checks that no reader sees a partial file while one process replaces it again and again."""

from __future__ import annotations

import functools
import os
import time
import zlib

from evalmon_agent.files.replace import replace_atomically
from verify_filesystem.finding import Finding
from verify_filesystem.meeting import Meeting

_BODY_BYTES = 100_000
_PATIENCE_S = 120.0


def verify(meeting: Meeting, *, processes: int, rounds: int) -> list[Finding]:
    """Torn, missing and outdated reads."""
    if meeting.is_first:
        _write(meeting.place, 0)
    reader, writer = functools.partial(_reader, rounds), functools.partial(_writer, rounds)
    found = meeting.let_work("replacement", reader, processes=processes, first=writer)
    total = {key: sum(one[key] for one in found) for key in ("reads", "torn", "missing", "stale", "older")}
    words = f"{total['reads']} reads of {len(found) - 1} processes while {rounds} versions were written"
    words += f": {total['torn']} torn, {total['missing']} found no file, {total['older']} older than one read before"
    words += f", {total['stale']} refused (ESTALE)" if total["stale"] else ""
    unfinished = sum(one["unfinished"] for one in found)
    words += f"; {unfinished} never saw the last version" if unfinished else ""
    is_sound = not (total["torn"] or total["missing"] or total["older"] or unfinished)
    return [Finding("replacing a file", is_sound, words)]


def _writer(rounds: int, place: str, number: int) -> dict[str, int]:
    del number
    for version in range(1, rounds + 1):
        _write(place, version)
    return dict.fromkeys(("reads", "torn", "missing", "stale", "older", "unfinished"), 0)


def _write(place: str, version: int) -> None:
    body = version.to_bytes(4, "big") * (_BODY_BYTES // 4)
    replace_atomically(os.path.join(place, "replaced"), b"%010d" % zlib.crc32(body) + body)


def _reader(rounds: int, place: str, number: int) -> dict[str, int]:
    del number
    counts = dict.fromkeys(("reads", "torn", "missing", "stale", "older", "unfinished"), 0)
    seen, deadline = 0, time.monotonic() + _PATIENCE_S
    while seen < rounds:
        if time.monotonic() > deadline:
            counts["unfinished"] = 1
            break
        counts["reads"] += 1
        try:
            with open(os.path.join(place, "replaced"), "rb", buffering=0) as file:
                data = b"".join(iter(lambda: file.read(1 << 16), b""))
        except FileNotFoundError:
            counts["missing"] += 1
            continue
        except OSError:
            counts["stale"] += 1
            continue
        if data[:10] != b"%010d" % zlib.crc32(data[10:]) or len(data) != _BODY_BYTES + 10:
            counts["torn"] += 1
            continue
        version = int.from_bytes(data[10:14], "big")
        counts["older"] += version < seen
        seen = max(seen, version)
    return counts
