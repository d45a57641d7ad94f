"""Finds the job's cgroup in /proc (v1, v2 or both), and measures with it what the job uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from evalmon_agent.files.mounts import Mount, parse_mountinfo
from evalmon_agent.files.proc import own_cgroups, parse_cgroups, read

from .host_usage import Usage, field, limit_bytes, number, quota_cores, smallest
from .processes import io_of

# The name for a v2 hierarchy here; its line in /proc/PID/cgroup has none.
UNIFIED = ""

# Of memory.stat, the longest of the kernel's files, a third is used.
_FILE_BYTES = 16384


def job_directories(job_id: str) -> dict[str, str]:
    """The job's own directory in each hierarchy that has one, by controller (`memory`, `cpuacct`, UNIFIED, ...).

    Raises:
        OSError: /proc cannot be read.
    """
    return find_job(_own("cgroup"), _own("mountinfo"), job_id=job_id)


def find_job(own: str, mountinfo: str, *, job_id: str) -> dict[str, str]:
    """The same, from the contents of /proc/self/cgroup and /proc/self/mountinfo."""
    directories: dict[str, str] = {}
    mount_of = _cgroup_mounts(mountinfo)
    for controller, path in parse_cgroups(own).items():
        mount = mount_of.get(controller)
        job_path = _cut_at_job(path, job_id)
        below = _below(job_path, mount.root) if mount is not None and job_path is not None else None
        if mount is not None and below is not None:
            directories[controller] = mount.point + below
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


def _below(path: str, root: str) -> str | None:
    if root == "/":
        return path
    if path == root or path.startswith(root + "/"):
        return path[len(root) :]
    return None


def _own(name: str) -> str:
    return read("self", name).decode("utf-8", "surrogateescape")


class CgroupUsage:
    """The job's cgroup, v1 or v2, if memory and CPU time can both be read there.

    Raises:
        OSError: they cannot, or the job has none.
    """

    def __init__(self, directories: dict[str, str]) -> None:
        """`directories`: the job's, as cgroup.job_directories gives them."""
        if "memory" in directories:
            self._memory: _Memory = _MemoryV1(directories["memory"])
        elif UNIFIED in directories:
            self._memory = _MemoryV2(directories[UNIFIED])
        else:
            raise FileNotFoundError("the job has no memory cgroup")
        self._cpu = _Cpu(directories)
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
        usage.cpu_s = self._cpu.used_s()
        usage.cpu_limit_cores = smallest([float(len(os.sched_getaffinity(0))), self._cpu.quota_cores()])
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


class _Cpu:
    """CPU time and quota, of either version."""

    def __init__(self, directories: dict[str, str]) -> None:
        unified = directories.get(UNIFIED)
        self._is_v1 = "cpuacct" in directories
        directory, name = (directories["cpuacct"], "cpuacct.usage") if self._is_v1 else (unified, "cpu.stat")
        self._used = KernelFile(directory, name) if directory is not None else None
        directory, names = (
            (directories["cpu"], ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
            if "cpu" in directories
            else (unified, ("cpu.max",))
        )
        self._quota = [KernelFile(directory, name) for name in names] if directory is not None else []

    def used_s(self) -> float | None:
        """The bytes since the job's start; None if they are not counted.

        Raises:
            OSError: the cgroup is gone.
        """
        if self._used is None:
            return None
        text = self._used.text()
        used = number(text) if self._is_v1 else field(text, "usage_usec")
        return None if used is None else used / (1e9 if self._is_v1 else 1e6)

    def quota_cores(self) -> float | None:
        """How many cores it may use."""
        return quota_cores(" ".join(file.text_if_there() for file in self._quota))


class _Level:
    """The job's cgroup, or one between it and this process's cgroup."""

    __slots__ = ("_cache_fields", "_limit", "_stat", "_usage")

    def __init__(self, directory: str, usage: str, limit: str, cache_fields: tuple[str, ...]) -> None:
        self._usage, self._stat = KernelFile(directory, usage), KernelFile(directory, "memory.stat")
        self._limit = KernelFile(directory, limit)
        self._cache_fields = cache_fields

    def used(self) -> tuple[int, int]:
        """Bytes in use, and how many of them are file cache."""
        used, cache = number(self._usage.text()), field(self._stat.text(), *self._cache_fields)
        if used is None or cache is None:
            raise FileNotFoundError("the job's cgroup has no memory figures")
        return used, min(cache, used)

    def limit_bytes(self) -> int | None:
        return limit_bytes(self._limit.text_if_there())


class _Memory:
    """What v1 and v2 share. Slurm limits the job and its steps, so the tightest limit counts."""

    name = ""
    _usage_file, _limit_file, _peak_file = "", "", ""
    _file_cache: tuple[str, ...] = ()

    def __init__(self, job: str, *, own: str | None = None) -> None:
        """`own`: the directory of this process's cgroup, if known."""
        self._levels = [
            _Level(directory, self._usage_file, self._limit_file, self._file_cache)
            for directory in _between(own or _own_directory(job), job)
        ]
        self._peak = KernelFile(job, self._peak_file)
        self._job = job

    def read_into(self, usage: Usage) -> None:
        used, cache = self._levels[-1].used()
        usage.memory_bytes, usage.file_cache_bytes = used - cache, cache
        usage.memory_peak_bytes = number(self._peak.text_if_there())
        limit = smallest([level.limit_bytes() for level in self._levels])
        usage.memory_limit_bytes = None if limit is None else int(limit)

    def headroom_bytes(self) -> int | None:
        rooms = []
        for level in self._levels:
            limit = level.limit_bytes()
            if limit is not None:
                used, cache = level.used()
                rooms.append(limit - (used - cache))
        return min(rooms, default=None)

    def pids(self) -> list[int]:
        return pids_in(self._job)


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
    """The directory of this process's cgroup, if /proc says that it is below the job's."""
    name = os.path.basename(job)
    own = own_cgroups()
    for path in (own.get("memory", ""), own.get(UNIFIED, "")):
        _, found, below = path.partition(f"/{name}/")
        if found and os.path.isdir(os.path.join(job, below)):
            return os.path.join(job, below)
    return job


def _between(own: str, job: str) -> list[str]:
    """This process's cgroup and each above it, up to the job's."""
    directories = []
    while len(own) > len(job):
        directories.append(own)
        own = os.path.dirname(own)
    return [*directories, job]


class KernelFile:
    """A small file below /sys/fs/cgroup, kept open: with a tick a second, opening it by its path was half of the cost.

    An open file keeps no cgroup from being removed.
    """

    __slots__ = ("_descriptor", "_is_missing", "_path")

    def __init__(self, directory: str, name: str) -> None:
        """Nothing is opened yet."""
        self._path = f"{directory}/{name}"
        self._descriptor = -1
        self._is_missing = False

    def text(self) -> str:
        """Its content now.

        Raises:
            OSError: it is not there, or its cgroup is gone.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._descriptor, _FILE_BYTES, 0).decode("ascii", "replace")

    def text_if_there(self) -> str:
        """Its content; empty if this kernel has no such file, or if it is gone."""
        if self._is_missing:
            return ""
        try:
            return self.text()
        except FileNotFoundError:
            self._is_missing = True
            return ""
        except OSError:
            return ""


def pids_in(directory: str) -> list[int]:
    """The processes of a cgroup and of those below it, which come and go with the job's steps.

    Raises:
        OSError: it is gone.
    """
    with open(f"{directory}/cgroup.procs", "rb", buffering=0) as file:
        pids = [int(word) for word in (file.read() or b"").split()]
    if os.stat(directory).st_nlink != 2:  # a directory has two links and one more per subdirectory
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in below:
            with suppress(OSError):  # the step has ended meanwhile
                pids += pids_in(path)
    return pids
