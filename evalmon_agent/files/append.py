"""Appends text to a file completely or not at all, and completes what a kill cut off.

Call these under the lock. UsageError unless the file is a plain file of this user (`private`).
"""

from __future__ import annotations

import contextlib
import os
import re

from evalmon_agent.files.private import open_to_grow
from evalmon_agent.files.replace import sync_directory

_TAIL_BYTES = 64 * 1024
_DIGIT = re.compile(rb"[0-9]")
_HEAD = b"[0000-00-00 00:00:00] "


def size_of(path: str) -> int:
    """The length in bytes; 0 if there is no such file."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def append_line(path: str, line: bytes, *, mode: int = 0o600) -> None:
    """Append `line` (with its newline) and make it durable; a torn line before it gets its newline first.

    After a return the line is on disk; after an OSError the file has its earlier length; a kill leaves at most a torn
    last line, which readers skip.
    """
    fd, created = open_to_grow(path, mode=mode)
    try:
        end = os.fstat(fd).st_size
        torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
        _write_at(fd, end, b"\n" + line if torn else line)
        if created:
            sync_directory(os.path.dirname(path))
    finally:
        os.close(fd)


def complete(path: str, offset: int, data: bytes, *, mode: int = 0o600) -> bool:
    """Make the file hold `data` from `offset` on, writing only what is missing; True if anything was.

    A part of `data` that a killed writer left is completed. If the file was cut or replaced since, so that `offset` is
    beyond its end or other text is there, `data` goes to its end. After a return it is on disk; after an OSError the
    file is unchanged.
    """
    fd, created = open_to_grow(path, mode=mode)
    try:
        end = os.fstat(fd).st_size
        written = os.pread(fd, len(data), offset) if offset <= end else None
        if written is not None and data.startswith(written):
            missing, at = data[len(written) :], offset + len(written)
        else:
            missing, at = data, end
        _write_at(fd, at, missing)
        if created:
            sync_directory(os.path.dirname(path))
        return bool(missing)
    finally:
        os.close(fd)


def cut_torn(path: str, *, end_of_block: bytes = b"\n\n", mode: int = 0o600) -> None:
    """Cut what a kill left of a block at the end of the log.

    Only text that begins like a block is cut; other text gets its missing blank line.
    """
    if not os.path.lexists(path):
        return
    fd, _ = open_to_grow(path, mode=mode)
    try:
        end = os.fstat(fd).st_size
        start = max(end - _TAIL_BYTES, 0)
        tail = os.pread(fd, end - start, start)
        if not tail or tail.endswith(end_of_block):
            return
        last = tail.rfind(end_of_block)
        torn = tail[last + len(end_of_block) if last >= 0 else 0 :]
        if (last >= 0 or start == 0) and _begins_a_block(torn):
            os.ftruncate(fd, end - len(torn))
        else:
            _write_at(fd, end, b"\n" if tail.endswith(b"\n") else end_of_block)
    finally:
        os.close(fd)


def _begins_a_block(text: bytes) -> bool:
    """Whether the text is the start, however short, of `[2026-01-02 03:04:05] KIND: ...`."""
    shape = _DIGIT.sub(b"0", text[: len(_HEAD)])
    return bool(shape) and _HEAD.startswith(shape)


def _write_at(fd: int, at: int, data: bytes) -> None:
    """Write all of `data` to disk, or cut the file to its earlier length (a full disk writes only a part)."""
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], at + done)
        os.fsync(fd)
    except OSError:
        if data:
            with contextlib.suppress(OSError):  # the first error is the one that matters
                os.ftruncate(fd, at)
        raise
