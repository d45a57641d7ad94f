"""Reads and writes observer.json: who polls, when last, with what result. Losing it only causes one early poll."""

from __future__ import annotations

from typing import Literal

import msgspec

from evalmon_agent.errors import UsageError
from evalmon_agent.experiment import versioned
from evalmon_agent.files.private import read_private
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.words.job_id import JobId

SCHEMA = 1
_MAX_BYTES = 64 * 1024
Role = Literal["sidecar", "completion", "command"]


class Heartbeat(msgspec.Struct):
    """The present observer. Times are epoch seconds on its host; `polls` counts those of all observers."""

    role: Role
    host: str
    pid: int
    job_id: JobId | None = None
    started_at: float = 0.0
    polled_at: float = 0.0
    poll_interval_s: float = 60.0
    polls: int = 0
    failed_polls: int = 0
    last_error: str | None = None
    schema: int = SCHEMA


_decoder = msgspec.json.Decoder(Heartbeat)


def load(path: str) -> Heartbeat | None:
    """The heartbeat; None if there is none, or it cannot be read. Another schema: UnreadableError (78)."""
    try:
        data = read_private(path, max_bytes=_MAX_BYTES) or b""
    except (OSError, UsageError):
        return None
    return versioned.decode(data, _decoder, path=path, schema=SCHEMA)


def save(path: str, heartbeat: Heartbeat, *, mode: int = 0o600) -> None:
    """Replace observer.json atomically; call it under the lock."""
    replace_atomically(path, msgspec.json.encode(heartbeat), mode=mode)
