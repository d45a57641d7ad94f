"""Reads from an open file."""

from __future__ import annotations

import os


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
