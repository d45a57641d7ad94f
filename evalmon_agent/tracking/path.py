"""Which states did an eval go through: its path, derived anew from all facts, so their order never matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evalmon_agent.tracking.records import Attempt, Eval, Job, Own
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

Witness = Literal["sacct", "squeue", "self", "none"]

ACCOUNTING_LAG_S = 120.0
"""How long sacct may answer without a job that ended before another witness decides."""


@dataclass(frozen=True, slots=True)
class Step:
    """One state on the path; `at` is when it began, if anybody knows. `attempt` indexes Eval.attempts."""

    job_id: str
    state: State
    at: float | None
    attempt: int | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, and who says so."""

    state: State
    at: float | None
    witness: Witness


def steps(ev: Eval, *, lost_after_s: float) -> list[Step]:
    """The path so far. It stops before anything unknown: what comes after waits until that is known."""
    path: list[Step] = []
    for job in ev.jobs:
        path.append(Step(job.job_id, State.PENDING, job.registered_at, None))
        known = _job_steps(ev, job, path, lost_after_s=lost_after_s)
        if not known:
            break
    return path


def attempts_of(ev: Eval, job_id: str) -> list[tuple[int, Attempt]]:
    """The attempts of one job, oldest first, with their place in Eval.attempts."""
    return [(i, a) for i, a in enumerate(ev.attempts) if a.job_id == job_id]


def own_of(ev: Eval, job_id: str, restart: int) -> Own | None:
    """What the job reported of its attempt number `restart` (SLURM_RESTART_COUNT)."""
    return next((o for o in ev.own if o.job_id == job_id and o.restart == restart), None)


def ending(attempt: Attempt, own: Own | None, job: Job, *, superseded: bool, lost_after_s: float) -> Ending | None:
    """How the attempt ended, or None while it goes on or nobody can tell.

    squeue decides for active jobs; then accounting; then squeue's own last word; then the job's
    self-report; and only after `lost_after_s` without any of them, LOST.
    """
    account, queue = attempt.account_state, attempt.queue_state
    queued = queue is not None and queue not in TERMINAL and queue is not State.REQUEUED
    if account is not None and _is_end(account):
        still_there = queued and attempt.queue_at > attempt.account_at and not superseded
        return None if still_there else Ending(account, attempt.ended_at, "sacct")
    if queue in TERMINAL or (queue is State.REQUEUED and attempt.ran):
        return Ending(State(str(queue)), attempt.ended_at, "squeue")
    if superseded:
        return _replaced(attempt, own, job)
    return _vanished(own, job, lost_after_s=lost_after_s)


def is_final(ev: Eval, path: list[Step]) -> bool:
    """Whether the eval's last job is over for good: nothing of Slurm's can start it again by itself."""
    last = path[-1] if path else None
    if last is None or last.job_id != ev.job_id or last.state not in TERMINAL:
        return False
    if last.state not in MAY_RUN_AGAIN or last.attempt is None:
        return True
    attempt = ev.attempts[last.attempt]
    return ev.jobs[-1].missing_at is not None or attempt.queue_state in TERMINAL


def _job_steps(ev: Eval, job: Job, path: list[Step], *, lost_after_s: float) -> bool:
    """Append the job's steps; False if its end is not known (yet)."""
    attempts = attempts_of(ev, job.job_id)
    if not attempts:
        lost = _vanished(None, job, lost_after_s=lost_after_s)
        if lost is not None:
            path.append(Step(job.job_id, lost.state, lost.at, None))
        return lost is not None
    for number, (index, attempt) in enumerate(attempts):
        superseded = number + 1 < len(attempts)
        own = own_of(ev, job.job_id, number)
        if number:
            path.append(Step(job.job_id, State.PENDING, attempt.submitted_at, index))
        end = ending(attempt, own, job, superseded=superseded, lost_after_s=lost_after_s)
        path.extend(_running(attempt, own, index))
        if end is None:
            return False
        path.append(Step(job.job_id, end.state, end.at, index))
    return path[-1].state in TERMINAL


def _running(attempt: Attempt, own: Own | None, index: int) -> Iterator[Step]:
    started_at = attempt.started_at if attempt.started_at is not None or own is None else own.started_at
    seen = attempt.running_seen_at is not None
    if (attempt.ran and started_at is not None) or own is not None or seen:
        yield Step(attempt.job_id, State.RUNNING, started_at, index)
        for at, state in attempt.suspensions:
            yield Step(attempt.job_id, state, at, index)


def _is_end(state: State) -> bool:
    return state in TERMINAL or state is State.REQUEUED


def _replaced(attempt: Attempt, own: Own | None, job: Job) -> Ending | None:
    """An attempt that a later one follows was requeued; which way, accounting gets time to say."""
    since = attempt.superseded_at
    answered = since is not None and job.answered_at >= since + ACCOUNTING_LAG_S
    if job.no_accounting or answered:
        return Ending(State.REQUEUED, own.ended_at if own else None, "none")
    return None


def _vanished(own: Own | None, job: Job, *, lost_after_s: float) -> Ending | None:
    """A job that neither squeue nor accounting knows any more."""
    if job.missing_at is None or job.unaccounted_at is None:
        return None
    unknown_for_s = job.unaccounted_at - job.missing_at
    if own is not None and own.ended and (job.no_accounting or unknown_for_s >= ACCOUNTING_LAG_S):
        return Ending(State.COMPLETED if own.exit_code == 0 else State.FAILED, own.ended_at, "self")
    if unknown_for_s >= lost_after_s:
        return Ending(State.LOST, None, "none")
    return None
