"""What the job uses of this node, from its cgroup: the kernel's own sums, a few small files per tick."""

import os

from . import cgroup
from .host_usage import Usage, field, limit_bytes, number, quota_cores, smallest
from .process_io import io_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class CgroupUsage:
    """The job's cgroup, v1 or v2, if memory and CPU time can both be read there.

    Raises:
        OSError: they cannot, or the job has none.
    """

    def __init__(self, job_id: str) -> None:
        directories = cgroup.job_directories(job_id)
        if "memory" in directories:
            self._memory: _Memory = _MemoryV1(directories["memory"])
        elif cgroup.UNIFIED in directories:
            self._memory = _MemoryV2(directories[cgroup.UNIFIED])
        else:
            raise FileNotFoundError("the job has no memory cgroup")
        self._directories = directories
        self.name = self._memory.name
        if self.usage().cpu_s is None:
            raise FileNotFoundError("the job's cgroup does not count CPU time")

    def usage(self) -> Usage:
        """Now.

        Raises:
            OSError: the cgroup is gone.
        """
        usage = Usage()
        self._memory.read_into(usage)
        usage.cpu_s = self._cpu_s()
        usage.cpu_limit_cores = smallest([float(len(os.sched_getaffinity(0))), self._quota_cores()])
        pids = self._memory.pids()
        usage.processes = len(pids)
        usage.read_bytes, usage.written_bytes = io_of(pids)
        return usage

    def headroom_bytes(self) -> int | None:
        """How much memory without file cache is left below the nearest limit; None without a limit.

        Raises:
            OSError: the cgroup is gone.
        """
        return self._memory.headroom_bytes()

    def _cpu_s(self) -> float | None:
        if "cpuacct" in self._directories:
            used_ns = number(_read(self._directories["cpuacct"], "cpuacct.usage"))
            return used_ns / 1e9 if used_ns is not None else None
        if cgroup.UNIFIED in self._directories:
            used_us = field(_read(self._directories[cgroup.UNIFIED], "cpu.stat"), "usage_usec")
            return used_us / 1e6 if used_us is not None else None
        return None

    def _quota_cores(self) -> float | None:
        if "cpu" in self._directories:
            directory = self._directories["cpu"]
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            return quota_cores(" ".join(_read_if_there(directory, name) for name in names))
        if cgroup.UNIFIED in self._directories:
            return quota_cores(_read_if_there(self._directories[cgroup.UNIFIED], "cpu.max"))
        return None


class _Memory:
    """What v1 and v2 have in common. Slurm sets limits on the job and on its steps, so the tightest one counts."""

    name = ""
    _usage_file = _limit_file = _peak_file = ""
    _file_cache: tuple[str, ...] = ()

    def __init__(self, job: str) -> None:
        self._job = job
        self._own = _own_directory(job)

    def read_into(self, usage: Usage) -> None:
        used, cache = self._used(self._job)
        usage.memory_bytes, usage.file_cache_bytes = used - cache, cache
        usage.memory_peak_bytes = number(_read_if_there(self._job, self._peak_file))
        limits = [limit_bytes(_read_if_there(directory, self._limit_file)) for directory in self._levels()]
        limit = smallest(limits)
        usage.memory_limit_bytes = None if limit is None else int(limit)

    def headroom_bytes(self) -> int | None:
        rooms = []
        for directory in self._levels():
            limit = limit_bytes(_read_if_there(directory, self._limit_file))
            if limit is not None:
                used, cache = self._used(directory)
                rooms.append(limit - (used - cache))
        return min(rooms, default=None)

    def pids(self) -> list[int]:
        return [pid for directory in _tree(self._job) for pid in _pids(directory)]

    def _used(self, directory: str) -> tuple[int, int]:
        """Bytes in use, and how many of them are file cache."""
        used = number(_read(directory, self._usage_file))
        cache = field(_read(directory, "memory.stat"), *self._file_cache)
        if used is None or cache is None:
            raise FileNotFoundError(f"{directory}: no figures")
        return used, min(cache, used)

    def _levels(self) -> "Iterator[str]":
        """Our own cgroup and each above it, up to the job's."""
        directory = self._own
        while len(directory) > len(self._job):
            yield directory
            directory = os.path.dirname(directory)
        yield self._job


class _MemoryV1(_Memory):
    name = "cgroup v1"
    _usage_file, _limit_file, _peak_file = (
        "memory.usage_in_bytes",
        "memory.limit_in_bytes",
        "memory.max_usage_in_bytes",
    )
    # Not total_cache: that includes tmpfs, which nothing takes back.
    _file_cache = ("total_inactive_file", "total_active_file")


class _MemoryV2(_Memory):
    name = "cgroup v2"
    _usage_file, _limit_file, _peak_file = "memory.current", "memory.max", "memory.peak"
    _file_cache = ("inactive_file", "active_file")


def _own_directory(job: str) -> str:
    """Our own cgroup's directory, where /proc says that it lies below the job's."""
    name = os.path.basename(job)
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = cgroup.parse_own(file.read())
    for path in (own.get("memory", ""), own.get(cgroup.UNIFIED, "")):
        _, found, below = path.partition(f"/{name}/")
        if found and os.path.isdir(os.path.join(job, below)):
            return os.path.join(job, below)
    return job


def _tree(directory: str) -> "Iterator[str]":
    yield directory
    with os.scandir(directory) as entries:
        below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for path in below:
        yield from _tree(path)


def _pids(directory: str) -> list[int]:
    return [int(line) for line in _read_if_there(directory, "cgroup.procs").split()]


def _read(directory: str, name: str) -> str:
    with open(os.path.join(directory, name), "rb", buffering=0) as file:
        return (file.readall() or b"").decode("ascii", "replace")


def _read_if_there(directory: str, name: str) -> str:
    try:
        return _read(directory, name)
    except OSError:
        return ""
