"""What does scontrol say of a job of ours and of the cluster: the argv, and the little that we read of it."""

from __future__ import annotations

import re

_PREEMPTED = re.compile(r"\bPreemptTime=(?!None\b|\(null\)|Unknown\b|N/A\b)\S")
_SELECT_LINEAR = re.compile(r"^\s*SelectType\s*=\s*select/linear\s*$", re.MULTILINE)


def show_job(job_id: str) -> list[str]:
    """One job of ours."""
    return ["scontrol", "-o", "show", "job", job_id]


def show_config() -> list[str]:
    """The controller's settings."""
    return ["scontrol", "show", "config"]


def is_preempted_for_good(text: str) -> bool:
    """Whether this job is being ended by preemption, and not run again.

    PreemptTime is set with PreemptMode=CANCEL only [ran, 22.05]; where Slurm requeues the job it stays None.
    """
    return bool(_PREEMPTED.search(text))


def gives_whole_nodes(text: str) -> bool:
    """Whether every job takes whole nodes here (select/linear), unless its partition shares them."""
    return bool(_SELECT_LINEAR.search(text))
