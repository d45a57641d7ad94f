"""What is still to be asked: the jobs whose end accounting must tell, and the attempts to be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.tracking.path import (
    ACCOUNTING_LAG_S,
    ENDS,
    Incarnation,
    incarnations,
    is_history_known,
    replaced_at,
)
from evalmon_agent.tracking.records import Eval, ExperimentState, Job
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """An attempt that ran and ended and whose figures nobody captured yet.

    `latest`: seff can tell of it; of earlier attempts it knows nothing. `accounted`: the same figures from
    accounting, if it has them already; `answered_at`: when it last answered about the job.
    """

    name: str
    job_id: JobId
    submitted_at: float | None
    latest: bool
    accounted: Figures | None
    elapsed_s: float | None
    time_limit_s: float | None
    restart: int | None = None
    answered_at: float = 0.0


def jobs_to_account(state: ExperimentState) -> list[JobId]:
    """The ids to ask sacct about: gone from squeue, ended there, requeued, or ended without figures."""
    return sorted(
        {job.job_id for ev in state.evals.values() if not _is_settled(ev) for job in ev.jobs if _is_open(ev, job)},
        key=lambda job_id: (len(job_id), job_id),
    )


def unmeasured(state: ExperimentState) -> Iterator[Unmeasured]:
    """The attempts whose COMPUTE_METRICS is still owed."""
    for ev in state.evals.values():
        if all(attempt.figures is not None for attempt in ev.attempts):
            continue
        for job in ev.jobs:
            over = _is_logged_as_over(ev, job)
            for one in incarnations(ev, job.job_id):
                if one.attempt.figures is None and one.ran and (one.superseded or over):
                    yield _unmeasured(ev, job, one)


def _unmeasured(ev: Eval, job: Job, one: Incarnation) -> Unmeasured:
    attempt = one.attempt
    reported_s = one.own.elapsed_s if one.own is not None else None
    return Unmeasured(
        ev.name,
        attempt.job_id,
        attempt.submitted_at,
        not one.superseded,
        attempt.accounted,
        attempt.elapsed_s if attempt.elapsed_s is not None else reported_s,
        attempt.time_limit_s,
        attempt.restart,
        job.answered_at,
    )


def _is_logged_as_over(ev: Eval, job: Job) -> bool:
    """Whether the job's latest attempt has ended, as far as the log says."""
    return dict(ev.logged).get(job.job_id) in TERMINAL


def _is_settled(ev: Eval) -> bool:
    """Whether accounting has told all of it: most of a large experiment is so, and shall cost a poll nothing."""
    if not ev.final or len(ev.jobs) > 1 or not ev.attempts:
        return False
    return all(a.account_state in ENDS and a.accounted is not None for a in ev.attempts)


def _is_open(ev: Eval, job: Job) -> bool:
    known = incarnations(ev, job.job_id)
    is_over = bool(known) and (known[-1].attempt.account_state in TERMINAL or known[-1].attempt.queue_state in TERMINAL)
    if job.missing_at is not None and not ev.final and not (is_over and job.job_id != ev.job_id):
        return True
    if known and not is_history_known(job, known[-1].attempt):
        return True
    return any(_is_owed(ev, job, one) for one in known)


def _is_owed(ev: Eval, job: Job, one: Incarnation) -> bool:
    """Whether accounting has still to tell how an ended attempt ended, or what it used."""
    since = replaced_at(one)
    ended = one.superseded or since is not None or one.attempt.queue_state in TERMINAL
    if not ended or _is_accounted(one):
        return False
    if since is not None and job.answered_at < since + ACCOUNTING_LAG_S:
        return True
    # Of one that never ran there is little to know: one answer is enough, whatever it says.
    return one.attempt.figures is None if one.ran else not (ev.final and job.answered_at)


def _is_accounted(one: Incarnation) -> bool:
    return one.attempt.account_state in ENDS and (one.attempt.accounted is not None or not one.ran)
