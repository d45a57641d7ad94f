"""Defines what a job uses on this node, measures it by the job's processes, and writes rows of host_metrics.csv."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from evalmon_agent.files.proc import read, stat_fields
from evalmon_agent.words.csv_columns import HostColumn

_MIB = 1024 * 1024
_PROCESSES_AT_MOST = 1000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Places behind the name in /proc/PID/stat (proc(5)): user and system time, own and of ended children; resident pages.
_TIMES = slice(11, 15)
_RESIDENT = 21


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


class TreeUsage:
    """The process tree below (and with) `root`, the one that started the command, if there is no cgroup to read."""

    name = "processes"

    def __init__(self, root: int) -> None:
        self._root = root
        self._peak_bytes = 0

    def usage(self) -> Usage:
        """Now; a page that processes share counts for each. CPU time includes that of children that have ended.

        Not by psutil, which takes 5 ms a tick where this takes 0.2 [ran].

        Raises:
            OSError: the tree is gone.
        """
        pids = tree(self._root)
        memory_bytes, cpu_s = 0, 0.0
        for pid in pids:
            with suppress(OSError):  # it has ended meanwhile
                fields = stat_fields(pid)
                memory_bytes += int(fields[_RESIDENT]) * _PAGE_BYTES
                cpu_s += sum(map(int, fields[_TIMES])) / _TICKS_PER_S
        self._peak_bytes = max(self._peak_bytes, memory_bytes)
        read_bytes, written_bytes = io_of(pids)
        return Usage(
            cpu_s=cpu_s,
            cpu_limit_cores=float(len(os.sched_getaffinity(0))),
            memory_bytes=memory_bytes,
            memory_peak_bytes=self._peak_bytes,
            processes=len(pids),
            read_bytes=read_bytes,
            written_bytes=written_bytes,
        )

    def headroom_bytes(self) -> int | None:
        """No limit is known."""
        return None


def tree(root: int) -> list[int]:
    """`root` and all its living descendants; daemons, whose parent is init, are not found.

    Raises:
        OSError: `root` is gone.
    """
    pids: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, read(pid, f"task/{thread}/children").split())
        except OSError:
            if pid == root:
                raise
            continue
        pids.append(pid)
    return pids


def io_of(pids: Iterable[int]) -> tuple[int | None, int | None]:
    """Bytes read from and written to storage by the readable processes; None if there are none, or too many.

    A process's figures include those of the children that it has waited for (wait_task_zombie in kernel/exit.c), so the
    sum over the living is that of the job, less what orphans did.
    """
    totals: dict[bytes, int] = {}
    for number, pid in enumerate(pids):
        if number == _PROCESSES_AT_MOST:
            return None, None
        with suppress(OSError, ValueError):
            for line in read(pid, "io").splitlines():
                name, _, value = line.partition(b": ")
                totals[name] = totals.get(name, 0) + int(value)
    return totals.get(b"read_bytes"), totals.get(b"write_bytes")


def row(usage: Usage, before: tuple[float, Usage] | None, *, at_unix_s: float, at_s: float) -> bytes:
    """One line of host_metrics.csv with its newline.

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


def local_time(at_unix_s: float) -> str:
    """Local time as nvidia-smi prints it, `2026/02/20 14:28:12.659`, to the millisecond of `timestamp_unix`."""
    whole_s, milliseconds = divmod(int(f"{at_unix_s:.3f}".replace(".", "")), 1000)
    return f"{time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(whole_s))}.{milliseconds:03d}"


def _mib(value_bytes: int | None) -> int | None:
    return None if value_bytes is None else value_bytes // _MIB
