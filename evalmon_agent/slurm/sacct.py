"""What does accounting say of these jobs: the argv, and its rows as one record per attempt."""

from __future__ import annotations

from dataclasses import dataclass

from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class SacctJob:
    """One attempt: a job row with its steps folded in. Times are epoch seconds, unknown is None.

    State and elapsed are the job row's; CPU is the job row's total, memory the largest step's.
    `ran` is False only when the job was over, or is pending, without ever having started.
    """

    job_id: JobId
    raw_id: int | None
    cluster: str | None
    user: str | None
    state: State | None
    state_word: str
    exit_code: int | None
    signal: int | None
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    elapsed_s: float | None
    time_limit_s: float | None
    cpus: int | None
    nodes: int | None
    gpus: int | None
    total_cpu_s: float | None
    memory_used_bytes: int | None
    memory_requested_bytes: int | None
    node_list: str | None
    ran: bool
    name: str | None


@dataclass(frozen=True, slots=True)
class SacctAnswer:
    """All attempts that could be read, in sacct's order, and how many rows could not."""

    jobs: tuple[SacctJob, ...]
    bad_rows: int
