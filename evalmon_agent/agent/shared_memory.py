"""Hands bytes from the sampler's process to `run`, which finds them even if the sampler is killed."""

from __future__ import annotations

import mmap

_HEADER_BYTES = 16
_LENGTH_BYTES = 4
_REQUEST = 1


class SharedMemory:
    """Memory that both share: two halves that are written in turn, and a first byte that says which one counts.

    Make it before the fork. One side puts, the other gets.
    """

    def __init__(self, half_bytes: int = 256 * 1024) -> None:
        self._half_bytes = half_bytes
        self._memory = mmap.mmap(-1, _HEADER_BYTES + 2 * half_bytes)

    def put(self, data: bytes) -> bool:
        """Replace the present bytes; False if there is no room for these."""
        if len(data) > self._half_bytes - _LENGTH_BYTES:
            return False
        half = 1 - self._memory[0]
        start = _HEADER_BYTES + half * self._half_bytes
        content = len(data).to_bytes(_LENGTH_BYTES, "big") + data
        self._memory[start : start + len(content)] = content
        self._memory[0] = half
        return True

    def get(self) -> bytes:
        """What is there; empty if nothing was put."""
        start = _HEADER_BYTES + self._memory[0] * self._half_bytes
        end = start + _LENGTH_BYTES
        return self._memory[end : end + int.from_bytes(self._memory[start:end], "big")]

    def ask_for_report(self) -> None:
        """Say that what was put is worth a report at once."""
        self._memory[_REQUEST] = (self._memory[_REQUEST] + 1) % 256

    @property
    def requests(self) -> int:
        """A number that changes with each request."""
        return self._memory[_REQUEST]
