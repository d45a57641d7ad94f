"""Where do the host's figures come from: the job's cgroup, else the processes themselves?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from . import cgroup
from .cgroup_usage import CgroupUsage
from .host_usage import Usage
from .tree_usage import TreeUsage


class HostSource(Protocol):
    """Somebody who knows what the job uses of this node."""

    name: str

    def usage(self) -> Usage:
        """Now. Raises OSError."""

    def headroom_bytes(self) -> int | None:
        """Memory left below the nearest limit. Raises OSError."""


def open_source(environ: Mapping[str, str], *, root: int) -> HostSource:
    """The job's cgroup; where there is none to read, the process tree below `root`."""
    job_id = environ.get("SLURM_JOB_ID", "")
    if job_id.isascii() and job_id.isdigit():
        try:
            return CgroupUsage(cgroup.job_directories(job_id))
        except (OSError, ValueError):
            pass
    return TreeUsage(root)
