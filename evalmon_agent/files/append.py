"""How a file grows: text appended whole or not at all, and completed after a kill."""

from __future__ import annotations

import os

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_TAIL_BYTES = 64 * 1024


def size_of(path: str) -> int:
    """The length in bytes; 0 if there is no such file."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def append_line(path: str, line: bytes, *, mode: int = 0o600) -> None:
    """Append `line` (with its newline) and make it durable; a torn line before it is closed first.

    Call it under the lock. Promises: after a return the line is on disk; after an OSError the file has the
    length it had before; a kill leaves at most a torn last line, which readers skip.
    """
    fd = os.open(path, os.O_RDWR | _FLAGS & ~os.O_WRONLY, mode)
    try:
        end = os.fstat(fd).st_size
        torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
        _write_at(fd, end, b"\n" + line if torn else line)
        os.fsync(fd)
    finally:
        os.close(fd)


def complete(path: str, offset: int, data: bytes, *, mode: int = 0o600) -> bool:
    """Make the file hold `data` from `offset` on, writing only what is missing; True if anything was.

    Call it under the lock. What a killed writer left of `data` is recognised and finished. If the file was cut or
    replaced since, so that `offset` lies beyond its end or other text stands there, `data` goes to its end.
    """
    fd = os.open(path, os.O_RDWR | _FLAGS & ~os.O_WRONLY, mode)
    try:
        end = os.fstat(fd).st_size
        there = os.pread(fd, len(data), offset) if offset <= end else None
        if there is not None and data.startswith(there):
            missing, at = data[len(there) :], offset + len(there)
        else:
            missing, at = data, end
        if not missing:
            return False
        _write_at(fd, at, missing)
        os.fsync(fd)
        return True
    finally:
        os.close(fd)


def cut_torn(path: str, *, end_of_block: bytes = b"\n\n") -> None:
    """Cut what a kill left of a block at the end of the log; call it under the lock.

    Only what begins like a block of ours is cut; other text gets the blank line that it lacks.
    """
    try:
        fd = os.open(path, os.O_RDWR | _FLAGS & ~(os.O_WRONLY | os.O_CREAT))
    except FileNotFoundError:
        return
    try:
        end = os.fstat(fd).st_size
        start = max(end - _TAIL_BYTES, 0)
        tail = os.pread(fd, end - start, start)
        if not tail or tail.endswith(end_of_block):
            return
        last = tail.rfind(end_of_block)
        torn = tail[last + len(end_of_block) if last >= 0 else 0 :]
        if torn.startswith(b"[") and (last >= 0 or start == 0):
            os.ftruncate(fd, end - len(torn))
        else:
            _write_at(fd, end, b"\n" if tail.endswith(b"\n") else end_of_block)
    finally:
        os.close(fd)


def _write_at(fd: int, at: int, data: bytes) -> None:
    """Write all of `data` or cut the file back to where it was (a full disk writes a part)."""
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], at + done)
    except OSError:
        os.ftruncate(fd, at)
        raise
