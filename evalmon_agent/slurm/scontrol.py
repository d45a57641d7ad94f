"""What does scontrol say of a job: the argv, and the little that we read of it."""

from __future__ import annotations

import re

from evalmon_agent.words.job_id import JobId

_STANDARD_FILE = re.compile(r"^\s*(StdOut|StdErr|StdIn)=(/.*?)\s*$", re.MULTILINE)
_PREEMPTED = re.compile(r"\bPreemptTime=(?!None\b|\(null\)|Unknown\b|N/A\b)\S")


def show_job(job_id: JobId) -> list[str]:
    """One job, a line for each few of its fields."""
    return ["scontrol", "-a", "show", "job", job_id]


def write_script(job_id: JobId) -> list[str]:
    """The batch script that Slurm has spooled, on stdout."""
    return ["scontrol", "write", "batch_script", job_id, "-"]


def is_preempted_for_good(text: str) -> bool:
    """Whether this job is being ended by preemption, and not run again.

    PreemptTime is set with PreemptMode=CANCEL only [ran, 22.05]; where Slurm requeues the job it stays None.
    """
    return bool(_PREEMPTED.search(text))


def standard_files(text: str) -> dict[str, str]:
    """The paths of `StdOut`, `StdErr` and `StdIn`, as far as they are told and Slurm has filled in their patterns."""
    return {name: path for name, path in _STANDARD_FILE.findall(text) if "%" not in path}
