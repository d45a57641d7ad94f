"""Defines what a job uses on this node, parses the kernel's files for it, and writes rows of host_metrics.csv. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from evalmon_agent.words.csv_columns import HostColumn

from .gpu_rows import local_time

# A higher value means no limit (v1 prints nearly 2**63).
_NO_LIMIT_BYTES = 1 << 60

_MIB = 1024 * 1024
HEADER = HostColumn.first_line()


@dataclass(slots=True)
class Usage:
    """What all parts of the job use on this node; None: unknown. CPU time and I/O count from the job's start."""

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
    """The number in a file with one number; None for `max` and for anything else."""
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
    """The smallest known value."""
    return min((value for value in values if value is not None), default=None)


class HostSource(Protocol):
    """Measures what the job uses on this node."""

    name: str

    def usage(self) -> Usage:
        """The present use. Raises OSError."""

    def headroom_bytes(self) -> int | None:
        """Memory left below the nearest limit. Raises OSError."""


def row(usage: Usage, before: tuple[float, Usage] | None, *, at_unix_s: float, at_s: float) -> bytes:
    """One line with its newline.

    Args:
        usage: now.
        before: the monotonic time of the tick before and what was used then; None at the first.
        at_unix_s: now, on the wall clock.
        at_s: now, on the monotonic clock.
    """
    values: dict[HostColumn, object] = {
        HostColumn.TIMESTAMP: local_time(at_unix_s),
        HostColumn.TIMESTAMP_UNIX_S: at_unix_s,
        HostColumn.CPU_USED: cores_used(usage, before, at_s=at_s),
        HostColumn.CPU_LIMIT: usage.cpu_limit_cores,
        HostColumn.MEMORY_USED: _mib(usage.memory_bytes),
        HostColumn.FILE_CACHE: _mib(usage.file_cache_bytes),
        HostColumn.MEMORY_PEAK: _mib(usage.memory_peak_bytes),
        HostColumn.MEMORY_LIMIT: _mib(usage.memory_limit_bytes),
        HostColumn.PROCESSES: usage.processes,
        HostColumn.READ: _mib(usage.read_bytes),
        HostColumn.WRITTEN: _mib(usage.written_bytes),
    }
    return HostColumn.line(values)


def cores_used(usage: Usage, before: tuple[float, Usage] | None, *, at_s: float) -> float | None:
    """Mean number of busy cores since the tick before; None if it is not known (or time and use went backwards)."""
    if before is None or usage.cpu_s is None or before[1].cpu_s is None:
        return None
    passed_s, used_s = at_s - before[0], usage.cpu_s - before[1].cpu_s
    return used_s / passed_s if passed_s > 0 and used_s >= 0 else None


def _mib(value_bytes: int | None) -> int | None:
    return None if value_bytes is None else value_bytes // _MIB
