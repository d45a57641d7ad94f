"""The end of a file, however long it is, and whatever somebody may have put in its place.

Promises: reads at most `limit_bytes`, by seeking; those of `regular`; never raises for what the file system says.
"""

from __future__ import annotations

import os

from evalmon_agent.files.regular import open_regular, read_at


def read_tail(path: str | os.PathLike[str], *, limit_bytes: int = 65536) -> bytes | None:
    """The last `limit_bytes` of a regular file, less if it is shorter; None if none can be read there.

    The first line is cut off somewhere unless the file begins within the limit.
    """
    try:
        with open_regular(path) as (descriptor, size_bytes):
            return read_at(descriptor, max(size_bytes - limit_bytes, 0), limit_bytes)
    except OSError:
        return None
