"""What does squeue say of my jobs: the argv, and its rows as records."""

from __future__ import annotations

from dataclasses import dataclass

from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class SqueueRow:
    """One job as squeue has it now; times are epoch seconds, unknown is None.

    `state` is None for a word of Slurm's that we do not know (`state_word` has it): an active job.
    `started_at` is None for a PENDING job: what squeue prints there is an estimate.
    `ends_at` of a running job is when its limit is reached.
    """

    job_id: JobId
    raw_id: int | None
    state: State | None
    state_word: str
    submitted_at: float | None
    started_at: float | None
    ends_at: float | None
    elapsed_s: float | None
    time_limit_s: float | None
    reason: str
    partition: str
    nodes: int | None
    node_list: str
    command: str
    name: str


@dataclass(frozen=True, slots=True)
class SqueueAnswer:
    """All rows that could be read, and how many could not."""

    rows: tuple[SqueueRow, ...]
    bad_rows: int
