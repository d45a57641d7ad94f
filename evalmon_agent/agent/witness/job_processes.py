"""Lists the processes of the job on this node: all its steps, and what left their process trees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from evalmon_agent.agent.sampling import cgroup
from evalmon_agent.agent.sampling.cgroup import CgroupPids
from evalmon_agent.files.proc import parent_of, read

# proctrack/cgroup tracks by the freezer of v1; on v2 there is but one hierarchy.
_HIERARCHIES = ("freezer", cgroup.UNIFIED, "memory", "cpuacct", "devices")

_LOOKS_AFTER_A_BEGIN = 2
_LOOKS_AFTER_A_CHANGE = 4
# To ask for the owner of each of more would cost more than to list the job's.
_BEGUN_AT_MOST = 6


class JobProcesses(Protocol):
    """Somebody who knows them. `every_s` is how often to ask; `name` is how they are known."""

    name: str
    every_s: float

    def pids(self) -> list[int]:
        """Those that run now. Raises OSError."""


def job_processes(environ: Mapping[str, str]) -> JobProcesses | None:
    """The job's cgroup, else whoever has the job's id in its environment; None outside of a job."""
    job_id = environ.get("SLURM_JOB_ID", "")
    if not (job_id.isascii() and job_id.isdigit()):
        return None
    try:
        directories = cgroup.job_directories(job_id)
        for name in _HIERARCHIES:
            if name in directories:
                source = _InCgroup(directories[name])
                if os.getpid() in source.pids():
                    return source
    except OSError:
        pass
    return _InEnvironment(job_id)


class _InCgroup:
    name = "cgroup"
    every_s = 1.0

    def __init__(self, directory: str) -> None:
        self._pids = CgroupPids(directory)

    def pids(self) -> list[int]:
        return self._pids.pids()


class _InEnvironment:
    name = "environment"
    every_s = 10.0

    def __init__(self, job_id: str) -> None:
        self._entry = f"SLURM_JOB_ID={job_id}".encode()
        self._is_ours: dict[int, bool] = {}

    def pids(self) -> list[int]:
        """Our user's processes with the job's id in their environment, and children of those."""
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        known, self._is_ours = self._is_ours, {}
        for pid in pids:
            self._is_ours[pid] = known[pid] if pid in known else self._has_the_id(pid)
        return [pid for pid, is_ours in self._is_ours.items() if is_ours]

    def _has_the_id(self, pid: int) -> bool:
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                return False
            environ = read(pid, "environ").split(b"\0")
            if any(entry.startswith(b"SLURM_JOB_ID=") for entry in environ):
                return self._entry in environ
            return self._is_ours.get(parent_of(pid), False)
        except OSError:
            return False


class NodeChanges:
    """Tells by /proc/loadavg (proc(5)) whether processes or threads began or ended on this node.

    None began as long as the pid that was given out last stays the same, and none ended if the number of threads does
    too. slurmstepd puts a process into its cgroup right after it began, and a shell goes on right after what it waited
    for has ended: hence the looks after.

    Attributes:
        may_have_begun: a process of our user may have begun before this look or the one before.
        is_quiet: none began or ended for some looks.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._descriptor = -1
        self._numbers = b""
        self._newest = [-_BEGUN_AT_MOST] * _LOOKS_AFTER_A_BEGIN
        self._looks_without_change = 0
        self.may_have_begun, self.is_quiet = True, False

    def look(self) -> None:
        """Look once. Raises OSError where there is no /proc."""
        if self._descriptor < 0:
            self._descriptor = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        # `0.20 0.18 0.12 1/80 11206`: the number of threads, and the newest pid.
        numbers = os.pread(self._descriptor, 100, 0).rpartition(b"/")[2]
        self._looks_without_change = 0 if numbers != self._numbers else self._looks_without_change + 1
        self.is_quiet = self._looks_without_change >= _LOOKS_AFTER_A_CHANGE
        if self._looks_without_change >= _LOOKS_AFTER_A_BEGIN:
            self.may_have_begun = False
            return
        self._numbers, last = numbers, int(numbers.split()[1])
        first, self._newest = self._newest[0], [*self._newest[1:], last]
        are_few = 0 <= last - first <= _BEGUN_AT_MOST
        self.may_have_begun = any(map(_is_our_users, range(first + 1, last + 1))) if are_few else True


def _is_our_users(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False  # it has ended, or is hidden since it is somebody else's
