"""Writes the job's use of a node as a row of host_metrics.csv. Pure; in nvidia-smi's style."""

from __future__ import annotations

from .gpu_records import NO_VALUE
from .gpu_rows import local_time
from .host_usage import Usage

_MIB = 1024 * 1024

COLUMNS = (
    "timestamp",
    "timestamp_unix [s]",
    "cpu.used [cores]",
    "cpu.limit [cores]",
    "memory.used [MiB]",
    "memory.file_cache [MiB]",
    "memory.peak [MiB]",
    "memory.limit [MiB]",
    "processes",
    "io.read [MiB]",
    "io.written [MiB]",
)
HEADER = ", ".join(COLUMNS).encode() + b"\n"


def row(usage: Usage, before: tuple[float, Usage] | None, *, at_unix_s: float, at_s: float) -> bytes:
    """One line with its newline.

    Args:
        usage: now.
        before: the monotonic time of the tick before and what was used then; None at the first.
        at_unix_s: now, on the wall clock.
        at_s: now, on the monotonic clock.
    """
    cells = [
        local_time(at_unix_s),
        f"{at_unix_s:.3f}",
        _cores(cores_used(usage, before, at_s=at_s)),
        _cores(usage.cpu_limit_cores),
        _mib(usage.memory_bytes),
        _mib(usage.file_cache_bytes),
        _mib(usage.memory_peak_bytes),
        _mib(usage.memory_limit_bytes),
        NO_VALUE if usage.processes is None else str(usage.processes),
        _mib(usage.read_bytes),
        _mib(usage.written_bytes),
    ]
    return ", ".join(cells).encode() + b"\n"


def cores_used(usage: Usage, before: tuple[float, Usage] | None, *, at_s: float) -> float | None:
    """Mean number of busy cores since the tick before; None if it is not known (or time and use went backwards)."""
    if before is None or usage.cpu_s is None or before[1].cpu_s is None:
        return None
    passed_s, used_s = at_s - before[0], usage.cpu_s - before[1].cpu_s
    return used_s / passed_s if passed_s > 0 and used_s >= 0 else None


def _cores(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.2f} cores"


def _mib(value_bytes: int | None) -> str:
    return NO_VALUE if value_bytes is None else f"{value_bytes // _MIB} MiB"
