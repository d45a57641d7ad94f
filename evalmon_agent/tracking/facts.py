"""Defines the records that a fold takes in (facts, already parsed) and returns (events)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.records import Attempt, Evidence, JobReport
from evalmon_agent.tracking.registry import Registration
from evalmon_agent.tracking.timeline import Witness
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class QueueAnswer:
    """squeue's answer: all the user's jobs at `asked_at`. A failed call gives no fact."""

    asked_at: float
    rows: Sequence[SqueueRow]


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """sacct's answer about `asked` ids; `disabled`: this cluster keeps no accounting; `user`: whose rows count."""

    asked_at: float
    asked: frozenset[JobId]
    jobs: Sequence[SacctJob]
    disabled: bool = False
    user: str | None = None


@dataclass(frozen=True, slots=True)
class SelfReport:
    """One job's own report: its name, where it wrote, and its attempts. `version` tells its file's contents apart.

    `name` is the eval's, None if it was not given one; `job_name` is Slurm's.
    """

    source: str
    version: str
    job_id: JobId
    name: str | None
    output_dir: str | None
    attempts: Sequence[JobReport]
    tokens: frozenset[str] = frozenset()
    job_name: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one attempt and what it left behind, captured after it ended.

    `restart`: of an attempt that only its report knows, as in its record; `is_later`: of one that was measured before,
    what it left was looked for again.
    """

    name: str
    job_id: JobId
    submitted_at: float | None
    figures: Figures
    evidence: Evidence | None = None
    restart: int | None = None
    is_later: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of one observation; an empty one means no news."""

    registrations: Sequence[Registration] = ()
    reports: Sequence[SelfReport] = ()
    queue: QueueAnswer | None = None
    accounts: Sequence[AccountAnswer] = ()
    measurements: Sequence[Measurement] = ()


@dataclass(frozen=True, slots=True)
class Transition:
    """An eval went from one state to the next; `at`: when, if known; `witness`: who reported an end."""

    name: str
    job_id: JobId
    previous: State
    current: State
    at: float | None
    attempt: Attempt | None
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of an ended attempt are known, or known to be unavailable."""

    name: str
    job_id: JobId
    attempt: Attempt


Event = Transition | Measured
