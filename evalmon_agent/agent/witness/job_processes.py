"""Lists the processes of the job on this node: all its steps, and what left their process trees."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from evalmon_agent.agent.sampling import cgroup
from evalmon_agent.files.proc import parent_of, read

# proctrack/cgroup tracks by the freezer of v1; on v2 there is but one hierarchy.
_HIERARCHIES = ("freezer", cgroup.UNIFIED, "memory", "cpuacct", "devices")


@dataclass(frozen=True, slots=True)
class JobProcesses:
    """How the job's processes are known: `pids` lists those that run now, or raises OSError; to be asked `every_s`."""

    name: str
    every_s: float
    pids: Callable[[], list[int]]


def job_processes(environ: Mapping[str, str]) -> JobProcesses | None:
    """The job's cgroup, else whoever has the job's id in its environment; None outside of a job."""
    job_id = environ.get("SLURM_JOB_ID", "")
    if not (job_id.isascii() and job_id.isdigit()):
        return None
    try:
        directories = cgroup.job_directories(job_id)
        for directory in (directories[name] for name in _HIERARCHIES if name in directories):
            if os.getpid() in cgroup.pids_in(directory):
                return JobProcesses("cgroup", 1.0, partial(cgroup.pids_in, directory))
    except OSError:
        pass
    return JobProcesses("environment", 10.0, _ByEnvironment(job_id).pids)


class _ByEnvironment:
    def __init__(self, job_id: str) -> None:
        self._entry = f"SLURM_JOB_ID={job_id}".encode()
        self._is_in_job: dict[int, bool] = {}

    def pids(self) -> list[int]:
        """This user's processes with the job's id in their environment, and children of those."""
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        before, self._is_in_job = self._is_in_job, {}
        for pid in pids:
            self._is_in_job[pid] = before[pid] if pid in before else self._has_the_id(pid)
        return [pid for pid, is_in_job in self._is_in_job.items() if is_in_job]

    def _has_the_id(self, pid: int) -> bool:
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                return False
            environ = read(pid, "environ").split(b"\0")
            if any(entry.startswith(b"SLURM_JOB_ID=") for entry in environ):
                return self._entry in environ
            return self._is_in_job.get(parent_of(pid), False)
        except OSError:
            return False
