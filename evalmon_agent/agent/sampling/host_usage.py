"""Measures what the job uses on this node, by its cgroup (v1, v2 or both) or its processes, for host_metrics.csv."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from evalmon_agent.files.proc import (
    Mount,
    below,
    joined,
    own_cgroups,
    parse_cgroups,
    parse_mountinfo,
    read,
    stat_fields,
)
from evalmon_agent.words.csv_columns import HostColumn

_MIB = 1024 * 1024
_PROCESSES_AT_MOST = 1000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Places behind the name in /proc/PID/stat (proc(5)): user and system time, own and of ended children; resident pages.
_TIMES = slice(11, 15)
_RESIDENT = 21

# The name for a v2 hierarchy here; its line in /proc/PID/cgroup has none.
UNIFIED = ""

# A higher value means no limit (v1 prints nearly 2**63).
_NO_LIMIT_BYTES = 1 << 60


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


def job_directories(job_id: str) -> dict[str, str]:
    """The job's own directory in each hierarchy that has one, by controller (`memory`, `cpuacct`, UNIFIED, ...).

    Raises:
        OSError: /proc cannot be read.
    """
    own, mountinfo = (read("self", name).decode("utf-8", "surrogateescape") for name in ("cgroup", "mountinfo"))
    return find_job(own, mountinfo, job_id=job_id)


def find_job(own: str, mountinfo: str, *, job_id: str) -> dict[str, str]:
    """The same, from the contents of /proc/self/cgroup and /proc/self/mountinfo."""
    directories: dict[str, str] = {}
    mounts = _cgroup_mounts(mountinfo)
    for controller, path in parse_cgroups(own).items():
        job_path = _cut_at_job(path, job_id)
        if job_path is not None and controller in mounts:
            path_below = below(job_path, mounts[controller].root)
            if path_below is not None:
                directories[controller] = joined(mounts[controller].point, path_below)
    return directories


def _cgroup_mounts(mountinfo: str) -> Mapping[str, Mount]:
    """The cgroup mounts by controller, which v1 lists among the options; the first if there are two."""
    mounts: dict[str, Mount] = {}
    for mount in parse_mountinfo(mountinfo):
        if mount.fstype in {"cgroup", "cgroup2"}:
            for controller in [UNIFIED] if mount.fstype == "cgroup2" else mount.options:
                mounts.setdefault(controller, mount)
    return mounts


def _cut_at_job(path: str, job_id: str) -> str | None:
    """`/slurm/uid_0/job_7/step_batch/task_0` cut behind `job_7`; slurmstepd names it so in v1 and v2."""
    parts = path.split("/")
    name = f"job_{job_id}"
    return "/".join(parts[: parts.index(name) + 1]) if name in parts else None


@dataclass(frozen=True, slots=True)
class _Files:
    """How a version of cgroups calls what is read."""

    name: str
    memory: str
    limit: str
    peak: str
    file_cache: tuple[str, ...]
    """Fields of memory.stat. Not total_cache: that includes tmpfs, which nothing takes back."""


_V1 = _Files(
    "cgroup v1",
    "memory.usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.max_usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
_V2 = _Files("cgroup v2", "memory.current", "memory.max", "memory.peak", ("inactive_file", "active_file"))


class CgroupUsage:
    """The job's cgroup, v1 or v2, if memory and CPU time can both be read there.

    Raises:
        OSError: they cannot, or the job has none.
    """

    def __init__(self, directories: dict[str, str], *, own: str | None = None) -> None:
        """`directories`: the job's, as job_directories gives them; `own`: this process's cgroup, if known."""
        self._directories = directories
        self._files = _V1 if "memory" in directories else _V2
        job = directories.get("memory") or directories.get(UNIFIED)
        if job is None:
            raise FileNotFoundError("the job has no memory cgroup")
        self._job = job
        self._levels = _between(own or _own_directory(job), job)
        self.name = self._files.name
        if self.usage().cpu_s is None:
            raise FileNotFoundError("the job's cgroup does not count CPU time")

    def usage(self) -> Usage:
        """Now.

        Raises:
            OSError: the cgroup is gone.
        """
        memory_bytes, cache_bytes = self._memory_and_cache(self._job)
        pids, cores = pids_in(self._job), float(len(os.sched_getaffinity(0)))
        read_bytes, written_bytes = io_of(pids)
        return Usage(
            cpu_s=cpu_used_s(self._directories),
            cpu_limit_cores=min(cores, _quota_of(self._directories) or cores),
            memory_bytes=memory_bytes,
            file_cache_bytes=cache_bytes,
            memory_peak_bytes=number(_text_if_there(self._job, self._files.peak)),
            memory_limit_bytes=min((limit for _, limit in self._limits()), default=None),
            processes=len(pids),
            read_bytes=read_bytes,
            written_bytes=written_bytes,
        )

    def headroom_bytes(self) -> int | None:
        """How much memory without file cache is left below the nearest limit of job and step; None without a limit.

        Raises:
            OSError: the cgroup is gone.
        """
        return min((limit - self._memory_and_cache(level)[0] for level, limit in self._limits()), default=None)

    def _limits(self) -> Iterator[tuple[str, int]]:
        """The directories that have a limit, and theirs."""
        for level in self._levels:
            limit = limit_bytes(_text_if_there(level, self._files.limit))
            if limit is not None:
                yield level, limit

    def _memory_and_cache(self, directory: str) -> tuple[int, int]:
        """Bytes in use without file cache, and those of the file cache."""
        used = number(_text(directory, self._files.memory))
        cache = field(_text(directory, "memory.stat"), *self._files.file_cache)
        if used is None or cache is None:
            raise FileNotFoundError("the job's cgroup has no memory figures")
        cache = min(cache, used)
        return used - cache, cache


def cpu_used_s(directories: Mapping[str, str]) -> float | None:
    """CPU time since the job's start; None if it is not counted.

    Raises:
        OSError: the cgroup is gone.
    """
    if "cpuacct" in directories:
        used_ns = number(_text(directories["cpuacct"], "cpuacct.usage"))
        return None if used_ns is None else used_ns / 1e9
    if UNIFIED not in directories:
        return None
    used_us = field(_text(directories[UNIFIED], "cpu.stat"), "usage_usec")
    return None if used_us is None else used_us / 1e6


def _quota_of(directories: Mapping[str, str]) -> float | None:
    if "cpu" in directories:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        return quota_cores(" ".join(_text_if_there(directories["cpu"], name) for name in names))
    return quota_cores(_text_if_there(directories[UNIFIED], "cpu.max")) if UNIFIED in directories else None


def _own_directory(job: str) -> str:
    """The directory of this process's cgroup, if /proc says that it is below the job's."""
    name = os.path.basename(job)
    own = own_cgroups()
    for path in (own.get("memory", ""), own.get(UNIFIED, "")):
        _, found, below = path.partition(f"/{name}/")
        if found and os.path.isdir(os.path.join(job, below)):
            return os.path.join(job, below)
    return job


def _between(own: str, job: str) -> list[str]:
    """This process's cgroup and each above it, up to the job's. Slurm limits the job and its steps."""
    directories = []
    while len(own) > len(job):
        directories.append(own)
        own = os.path.dirname(own)
    return [*directories, job]


def _text(directory: str, name: str) -> str:
    with open(f"{directory}/{name}", "rb", buffering=0) as file:
        return (file.read() or b"").decode("ascii", "replace")


def _text_if_there(directory: str, name: str) -> str:
    """The content; empty if this kernel has no such file, or if it is gone."""
    try:
        return _text(directory, name)
    except OSError:
        return ""


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
    fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    values = [number(fields.get(name, "")) for name in names]
    return None if None in values else sum(value or 0 for value in values)


def quota_cores(text: str) -> float | None:
    """`200000 100000` (v2's cpu.max, or v1's quota and period side by side) is 2 cores; `max ...` and -1: no quota."""
    words = text.split()
    quota, period = (number(word) for word in words[:2]) if len(words) >= 2 else (None, None)
    return quota / period if quota and period else None


def pids_in(directory: str) -> list[int]:
    """The processes of a cgroup and of those below it, which come and go with the job's steps.

    Raises:
        OSError: it is gone.
    """
    pids = [int(word) for word in _text(directory, "cgroup.procs").split()]
    if os.stat(directory).st_nlink != 2:  # a directory has two links and one more per subdirectory
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in below:
            with suppress(OSError):  # the step has ended meanwhile
                pids += pids_in(path)
    return pids
