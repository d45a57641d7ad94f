"""What the job used of this node so far, and what it may use. Pure: records, and how the kernel's files are read."""

from __future__ import annotations

from collections.abc import Iterable

# Limits beyond this are none (v1 prints nearly 2**63).
_NO_LIMIT_BYTES = 1 << 60


class Usage:
    """All parts of the job on this node; None where nobody knows. Times and bytes of I/O since the job's start."""

    __slots__ = (
        "cpu_limit_cores",
        "cpu_s",
        "file_cache_bytes",
        "memory_bytes",
        "memory_limit_bytes",
        "memory_peak_bytes",
        "processes",
        "read_bytes",
        "written_bytes",
    )

    def __init__(self) -> None:
        self.cpu_s: float | None = None
        self.cpu_limit_cores: float | None = None
        self.memory_bytes: int | None = None
        """Without file cache, which the kernel takes back when it needs room; tmpfs counts."""
        self.file_cache_bytes: int | None = None
        self.memory_peak_bytes: int | None = None
        """As the kernel counts it: with file cache."""
        self.memory_limit_bytes: int | None = None
        self.processes: int | None = None
        self.read_bytes: int | None = None
        self.written_bytes: int | None = None


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
    found = 0
    for name in names:
        _, is_there, rest = f"\n{text}".partition(f"\n{name} ")
        value = number(rest.partition("\n")[0]) if is_there else None
        if value is None:
            return None
        found += value
    return found


def quota_cores(text: str) -> float | None:
    """`200000 100000` (v2's cpu.max, or v1's quota and period side by side) is 2 cores; `max ...` and -1: no quota."""
    words = text.split()
    quota, period = (number(word) for word in words[:2]) if len(words) >= 2 else (None, None)
    return quota / period if quota and period else None


def smallest(values: Iterable[float | None]) -> float | None:
    """The least that is known."""
    return min((value for value in values if value is not None), default=None)
