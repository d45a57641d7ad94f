"""Opening what shall be read, and only if it is a plain file.

Promises: never waits (a FIFO, a device) and follows no symbolic link at the end of the path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """The descriptor of a regular file and its size in bytes.

    Raises:
        OSError: there is none, or it may not be read; EINVAL if it is something else than a regular file.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def read_at(descriptor: int, offset: int, count_bytes: int) -> bytes:
    """`count_bytes` from `offset` on, fewer at the end of the file.

    Raises:
        OSError: the file system says so.
    """
    chunks: list[bytes] = []
    while count_bytes > 0 and (chunk := os.pread(descriptor, count_bytes, offset)):
        chunks.append(chunk)
        offset += len(chunk)
        count_bytes -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
