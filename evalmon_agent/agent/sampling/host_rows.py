"""Writes the job's use of a node as a row of host_metrics.csv. Pure; in nvidia-smi's style."""

from __future__ import annotations

from evalmon_agent.words.csv_columns import HostColumn

from .gpu_records import NO_VALUE
from .gpu_rows import local_time
from .host_usage import Usage

_MIB = 1024 * 1024

HEADER = ", ".join(column.header for column in HostColumn).encode() + b"\n"


def row(usage: Usage, before: tuple[float, Usage] | None, *, at_unix_s: float, at_s: float) -> bytes:
    """One line with its newline.

    Args:
        usage: now.
        before: the monotonic time of the tick before and what was used then; None at the first.
        at_unix_s: now, on the wall clock.
        at_s: now, on the monotonic clock.
    """
    values = {
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
    cells = ((column, values[column]) for column in HostColumn)
    line = ", ".join(NO_VALUE if value is None else column.cell.written % value for column, value in cells)
    return line.encode() + b"\n"


def cores_used(usage: Usage, before: tuple[float, Usage] | None, *, at_s: float) -> float | None:
    """Mean number of busy cores since the tick before; None if it is not known (or time and use went backwards)."""
    if before is None or usage.cpu_s is None or before[1].cpu_s is None:
        return None
    passed_s, used_s = at_s - before[0], usage.cpu_s - before[1].cpu_s
    return used_s / passed_s if passed_s > 0 and used_s >= 0 else None


def _mib(value_bytes: int | None) -> int | None:
    return None if value_bytes is None else value_bytes // _MIB
