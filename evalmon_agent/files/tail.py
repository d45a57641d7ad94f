"""The end of a file, however long it is, and whatever somebody may have put in its place.

Promises: reads at most `limit_bytes`, by seeking; never waits (a FIFO, a device); follows no symbolic link;
never raises for what the file system says.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def read_tail(path: str | os.PathLike[str], *, limit_bytes: int = 65536) -> bytes | None:
    """The last `limit_bytes` of a regular file, less if it is shorter; None if none can be read there.

    The first line is cut off somewhere unless the file begins within the limit.
    """
    with suppress(OSError, ValueError):  # ValueError: a NUL in the path
        descriptor = os.open(path, _FLAGS)
        try:
            return _end_of(descriptor, limit_bytes)
        finally:
            os.close(descriptor)
    return None


def _end_of(descriptor: int, limit_bytes: int) -> bytes | None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    os.lseek(descriptor, max(status.st_size - limit_bytes, 0), os.SEEK_SET)
    chunks: list[bytes] = []
    left_bytes = limit_bytes
    while left_bytes > 0 and (chunk := os.read(descriptor, left_bytes)):
        chunks.append(chunk)
        left_bytes -= len(chunk)
    return b"".join(chunks)
