"""What does scontrol say of a job of ours: the argv, and the little that we read of it."""

from __future__ import annotations

import re

_PREEMPTED = re.compile(r"\bPreemptTime=(?!None\b|\(null\)|Unknown\b|N/A\b)\S")


def show_job(job_id: str) -> list[str]:
    """One job of ours."""
    return ["scontrol", "-a", "-o", "show", "job", job_id]


def is_preempted_for_good(text: str) -> bool:
    """Whether this job is being ended by preemption, and not run again.

    PreemptTime is set with PreemptMode=CANCEL only [ran, 22.05]; where Slurm requeues the job it stays None.
    """
    return bool(_PREEMPTED.search(text))
