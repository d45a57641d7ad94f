"""Derives the states that an eval went through from all facts, so that their order never matters. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evalmon_agent.tracking.attempts import FIRST_SUBMIT_S
from evalmon_agent.tracking.records import Attempt, Eval, Job, JobReport
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

Witness = Literal["sacct", "squeue", "self", "none"]

ACCOUNTING_LAG_S = 120.0
"""How long sacct may not list an ended job before another witness decides."""

ENDS = TERMINAL | {State.REQUEUED}
"""The states in accounting of an attempt that is over."""

LIVE = frozenset({State.RUNNING, State.SUSPENDED})


@dataclass(frozen=True, slots=True)
class Step:
    """One state on the path; `at`: when it began, if known; `attempt`: the attempt that it belongs to.

    `witness`: who reported an end; None for a state that is not an end.
    """

    job_id: JobId
    state: State
    at: float | None
    attempt: Attempt | None
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, and who reported it."""

    state: State
    at: float | None
    witness: Witness


def steps(ev: Eval, *, lost_after_s: float) -> list[Step]:
    """The path so far. It stops before the first unknown step; later steps wait until that is known."""
    path: list[Step] = []
    for job in ev.jobs:
        path.append(Step(job.job_id, State.PENDING, job.registered_at, None))
        if not _job_steps(job, path, lost_after_s=lost_after_s):
            break
    return path


def ending(job: Job, attempt: Attempt, *, lost_after_s: float) -> Ending | None:
    """How the attempt ended; None while it goes on or the end is unknown.

    Accounting decides; then squeue's last word; then the job's own report; and only after `lost_after_s`
    without any of them, LOST.
    """
    state = slurm_says(attempt)
    if state is not None and attempt.account_state in ENDS:
        return Ending(state, attempt.ended_at, "sacct")
    if state is not None and attempt.queue_state in TERMINAL:
        return Ending(state, attempt.ended_at, "squeue")
    since = replaced_at(attempt)
    if attempt is not job.latest or since is not None:
        return _replaced(job, attempt.report, since=since)
    return _vanished(job, attempt, lost_after_s=lost_after_s)


def is_final(ev: Eval, path: list[Step]) -> bool:
    """Whether the eval's last job is over for good, so that Slurm will not start it again by itself.

    A node's failure or a preemption is final once squeue, too, shows the job as ended, or does not show it and
    accounting, asked after that, knows of no further attempt.
    """
    last = path[-1] if path else None
    if last is None or last.job_id != ev.job_id or last.state not in TERMINAL:
        return False
    if last.state not in MAY_RUN_AGAIN or last.attempt is None:
        return True
    job = ev.jobs[-1]
    asked_since = job.missing_at is not None and (job.no_accounting or job.answered_at >= job.missing_at)
    return asked_since or last.attempt.queue_state in TERMINAL


def is_history_known(job: Job, attempt: Attempt) -> bool:
    """Whether no earlier attempt can be missing: squeue shows only the latest, and accounting gets time to report."""
    submitted_at = attempt.submitted_at
    if job.token is None or submitted_at is None or submitted_at <= job.registered_at + FIRST_SUBMIT_S:
        return True
    has_answered = attempt.account_state is not None or job.answered_at >= submitted_at + ACCOUNTING_LAG_S
    return has_answered or job.no_accounting


def slurm_says(attempt: Attempt) -> State | None:
    """The attempt's last state by Slurm: from accounting if that reports an end, else from squeue."""
    if attempt.account_state is not None and attempt.account_state in ENDS:
        return attempt.account_state
    return attempt.queue_state or attempt.account_state


def replaced_at(attempt: Attempt) -> float | None:
    """Since when it is known that Slurm will run, or has run, this job again; None: not the case, or unknown."""
    if attempt.queue_state is State.REQUEUED and attempt.has_run:
        return attempt.superseded_at or attempt.queue_at
    return attempt.superseded_at


def _job_steps(job: Job, path: list[Step], *, lost_after_s: float) -> bool:
    """Append the job's steps; False if its end is unknown (yet)."""
    if not job.attempts:
        lost = _vanished(job, None, lost_after_s=lost_after_s)
        if lost is not None:
            path.append(Step(job.job_id, lost.state, lost.at, None, lost.witness))
        return lost is not None
    for number, attempt in enumerate(job.attempts):
        if number:
            path.append(Step(job.job_id, State.PENDING, attempt.submitted_at, attempt))
        running = list(_running(job, attempt))
        if not is_history_known(job, attempt):
            path.extend(running[:1])
            return False
        path.extend(running)
        end = ending(job, attempt, lost_after_s=lost_after_s)
        if end is None:
            return False
        path.append(Step(job.job_id, end.state, end.at, attempt, end.witness))
    return path[-1].state in TERMINAL


def _running(job: Job, attempt: Attempt) -> Iterator[Step]:
    report = attempt.report
    started_at = attempt.started_at if attempt.started_at is not None or report is None else report.started_at
    if report is not None or attempt.running_seen_at is not None or (attempt.ran and started_at is not None):
        yield Step(job.job_id, State.RUNNING, started_at, attempt)
        for at, state in attempt.suspensions:
            yield Step(job.job_id, state, at, attempt)


def _replaced(job: Job, report: JobReport | None, *, since: float | None) -> Ending | None:
    """The steps of an attempt that was requeued; accounting gets time to report how it ended."""
    answered = since is not None and job.answered_at >= since + ACCOUNTING_LAG_S
    if job.no_accounting or answered:
        return Ending(State.REQUEUED, report.ended_at if report is not None else None, "none")
    return None


def _vanished(job: Job, attempt: Attempt | None, *, lost_after_s: float) -> Ending | None:
    """The steps of a job that neither squeue nor accounting knows any more."""
    if job.missing_at is None or job.unaccounted_at is None:
        return None
    report = attempt.report if attempt is not None else None
    if report is not None and report.ended and (job.no_accounting or job.unknown_s >= ACCOUNTING_LAG_S):
        return Ending(State.COMPLETED if report.exit_code == 0 else State.FAILED, report.ended_at, "self")
    if job.unknown_s >= lost_after_s and not (attempt is not None and _may_run(attempt, at=job.unaccounted_at)):
        return Ending(State.LOST, None, "none")
    return None


def _may_run(attempt: Attempt, *, at: float) -> bool:
    """Whether accounting says that it runs, within its limit: its absence from squeue proves nothing then."""
    if attempt.account_state not in LIVE or attempt.started_at is None or attempt.time_limit_s is None:
        return False
    return at < attempt.started_at + attempt.time_limit_s
