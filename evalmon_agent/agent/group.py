"""May the command lead a process group, as the batch script does that slurmstepd starts?

Scripts end what they started by `kill -- -$$` or `kill 0`; without us their pid is their group's. But a group of its
own takes the command out of ours, and by that group proctrack/pgid would find it. So: only where a cgroup of Slurm's
holds the job together.
"""

from __future__ import annotations

import os


def may_lead_a_group(job_id: int) -> bool:
    """Whether we lead a group in place of the batch script, in a job that Slurm tracks by its cgroup.

    proctrack/cgroup is the freezer of v1; on v2 there is but one hierarchy.
    """
    if os.getpgrp() != os.getpid():
        return False
    try:
        with open("/proc/self/cgroup", "rb", buffering=0) as file:
            return is_tracked(file.readall().decode(errors="replace"), job_id=job_id)
    except OSError:
        return False


def is_tracked(own: str, *, job_id: int) -> bool:
    """The same of the text of /proc/self/cgroup, `N:controllers:path` a line (cgroups(7))."""
    for line in own.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in {"freezer", ""} and f"/job_{job_id}/" in f"{path}/":
            return True
    return False
