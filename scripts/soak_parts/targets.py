"""Finds what can be hit now: evalmon's processes and the experiments' jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slurm_dev import processes
from slurm_dev.processes import Process
from soak_parts.place import Place, Shell

ALIVE = frozenset({"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED"})


@dataclass(frozen=True)
class Job:
    """One job that squeue shows, an array's tasks one by one. `folder`: where it was submitted from."""

    job_id: str
    state: str
    name: str
    folder: Path


def of_role(place: Place, role: str) -> list[Process]:
    """The processes of one role (sidecar, completion, agent, sampler), in the order of their pids."""
    is_wanted = _ROLES[role]
    return sorted((p for p in processes.everyone() if is_wanted(place, p.pid)), key=lambda process: process.pid)


def jobs(place: Place, shell: Shell) -> list[Job]:
    """The experiments' jobs, monitor jobs included; none while squeue does not answer."""
    return told_jobs(place, shell) or []


def told_jobs(place: Place, shell: Shell) -> list[Job] | None:
    """The experiments' jobs; None if squeue does not answer, which must not be taken for an empty queue."""
    done = shell.ask("squeue", "-a", "-h", "-r", "-t", "all", "-o", "%i|%T|%j|%Z", timeout_s=30)
    if done.returncode != 0:
        return None
    rows = [line.split("|", 3) for line in done.stdout.splitlines()]
    found = [Job(job_id, state, name, Path(folder)) for job_id, state, name, folder in rows]
    return [job for job in found if place.disk in job.folder.parents]


def evals(place: Place, shell: Shell) -> list[Job]:
    """The jobs of evals."""
    return [job for job in jobs(place, shell) if not job.name.startswith("evalmon-")]


def helpers(place: Place, shell: Shell, kind: str) -> list[Job]:
    """The sidecars or completion jobs that are not over."""
    found = [job for job in jobs(place, shell) if job.state in ALIVE]
    return [job for job in found if job.name == f"evalmon-{kind}"]


def _verb(pid: int) -> tuple[str, str]:
    """(`run`, the script), (`sidecar`, EXP) and the like; empty for a process that is not evalmon's."""
    argv = processes.argv(pid)
    if "evalmon_agent" not in argv:
        return "", ""
    at = argv.index("evalmon_agent") + 1
    return (argv[at], argv[-1]) if at < len(argv) else ("", "")


def _is_helper(verb: str) -> Callable[[Place, int], bool]:
    def is_it(place: Place, pid: int) -> bool:
        said, target = _verb(pid)
        # `evalmon complete` forks for each command it runs: only the one that slurmstepd started is the job.
        return said == verb and place.disk in Path(target).parents and _is_batch(pid)

    return is_it


def _is_agent(place: Place, pid: int) -> bool:
    said, target = _verb(pid)
    return said == "run" and place.disk in Path(target).parents and _is_batch(pid)


def _is_sampler(place: Place, pid: int) -> bool:
    said, target = _verb(pid)
    return said == "run" and place.disk in Path(target).parents and not _is_batch(pid)


def _is_batch(pid: int) -> bool:
    parent = processes.parent(pid)
    return parent is not None and processes.name(parent) == "slurmstepd"


_ROLES: dict[str, Callable[[Place, int], bool]] = {
    "sidecar": _is_helper("sidecar"),
    "completion": _is_helper("complete"),
    "agent": _is_agent,
    "sampler": _is_sampler,
}
