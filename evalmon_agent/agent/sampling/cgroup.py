"""Finds the job's cgroup in the lists of /proc: v1, v2 and both at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evalmon_agent.agent.proc import parse_cgroups, read, unescaped

# The name that a v2 hierarchy has here, for its line in /proc/PID/cgroup has none.
UNIFIED = ""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy: `root` is the cgroup that its `mount_point` shows."""

    root: str
    mount_point: str


def job_directories(job_id: str) -> dict[str, str]:
    """The job's own directory in each hierarchy that has one, by controller (`memory`, `cpuacct`, UNIFIED, ...).

    Raises:
        OSError: /proc does not tell.
    """
    return find_job(_own("cgroup"), _own("mountinfo"), job_id=job_id)


def find_job(own: str, mounts: str, *, job_id: str) -> dict[str, str]:
    """The same from the texts of /proc/self/cgroup and /proc/self/mountinfo."""
    directories: dict[str, str] = {}
    hierarchies = parse_mounts(mounts)
    for controller, path in parse_cgroups(own).items():
        hierarchy = hierarchies.get(controller)
        of_job = _cut_at_job(path, job_id)
        if hierarchy is not None and of_job is not None:
            below = _below(of_job, hierarchy.root)
            if below is not None:
                directories[controller] = hierarchy.mount_point + below
    return directories


def parse_mounts(text: str) -> Mapping[str, Hierarchy]:
    """The cgroup mounts in a mountinfo (proc(5)), by controller; of two for one, the first."""
    hierarchies: dict[str, Hierarchy] = {}
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(kind) < 3 or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        hierarchy = Hierarchy(unescaped(fields[3]), unescaped(fields[4]))
        for controller in [UNIFIED] if kind[0] == "cgroup2" else kind[2].split(","):
            hierarchies.setdefault(controller, hierarchy)
    return hierarchies


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
