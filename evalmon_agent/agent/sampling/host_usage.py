"""What the job used of this node so far, and what it may use. Pure: the record, and parsers of the kernel's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

# Limits beyond this are none (v1 prints nearly 2**63).
_NO_LIMIT_BYTES = 1 << 60


@dataclass(slots=True)
class Usage:
    """All parts of the job on this node; None where nobody knows. Times and bytes of I/O since the job's start."""

    cpu_s: float | None = None
    cpu_limit_cores: float | None = None
    memory_bytes: int | None = None
    """Without file cache, which the kernel takes back when it needs room; tmpfs counts."""
    file_cache_bytes: int | None = None
    memory_peak_bytes: int | None = None
    """As the kernel counts it: with file cache."""
    memory_limit_bytes: int | None = None
    processes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


def number(text: str) -> int | None:
    """A file with one number; None for `max` and for what is none."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def limit_bytes(text: str) -> int | None:
    """A memory limit; None if there is none."""
    limit = number(text)
    return limit if limit is not None and limit < _NO_LIMIT_BYTES else None


def field(text: str, *names: str) -> int | None:
    """The sum of these fields of a file of `name value` lines; None if one is missing."""
    total = 0
    for name in names:
        _, is_there, rest = f"\n{text}".partition(f"\n{name} ")
        value = number(rest.partition("\n")[0]) if is_there else None
        if value is None:
            return None
        total += value
    return total


def quota_cores(text: str) -> float | None:
    """`200000 100000` (v2's cpu.max, or v1's quota and period side by side) is 2 cores; `max ...` and -1: no quota."""
    words = text.split()
    quota, period = (number(word) for word in words[:2]) if len(words) >= 2 else (None, None)
    return quota / period if quota and period else None


def smallest(values: Iterable[float | None]) -> float | None:
    """The least that is known."""
    return min((value for value in values if value is not None), default=None)


class HostSource(Protocol):
    """Somebody who knows what the job uses of this node."""

    name: str

    def usage(self) -> Usage:
        """Now. Raises OSError."""

    def headroom_bytes(self) -> int | None:
        """Memory left below the nearest limit. Raises OSError."""
