"""What is still to be asked: the jobs whose end accounting must tell, and the attempts to be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.tracking.records import Attempt, Eval, ExperimentState, Job
from evalmon_agent.words.states import TERMINAL, State


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """An attempt that ran and ended and whose figures nobody captured yet.

    `latest`: seff can tell of it; of earlier attempts it knows nothing. `accounted`: the same figures from
    accounting, if it has them already.
    """

    name: str
    job_id: str
    submitted_at: float | None
    latest: bool
    accounted: Figures | None
    elapsed_s: float | None
    time_limit_s: float | None


def jobs_to_account(state: ExperimentState) -> list[str]:
    """The ids to ask sacct about: gone from squeue, ended there, requeued, or ended without figures."""
    return sorted(
        {job.job_id for ev in state.evals.values() for job in ev.jobs if _is_open(ev, job)},
        key=lambda job_id: (len(job_id), job_id),
    )


def unmeasured(state: ExperimentState) -> Iterator[Unmeasured]:
    """The attempts whose COMPUTE_METRICS is still owed."""
    for ev in state.evals.values():
        for number, attempt in enumerate(ev.attempts):
            if attempt.figures is not None or not attempt.ran:
                continue
            latest = all(later.job_id != attempt.job_id for later in ev.attempts[number + 1 :])
            if not latest or is_over(ev, attempt):
                yield Unmeasured(
                    ev.name,
                    attempt.job_id,
                    attempt.submitted_at,
                    latest,
                    attempt.accounted,
                    _elapsed_s(ev, attempt),
                    attempt.time_limit_s,
                )


def is_over(ev: Eval, attempt: Attempt) -> bool:
    """Whether the latest attempt of its job has ended, as far as the log says."""
    last = ev.logged[-1] if ev.logged else None
    return last is not None and last[0] == attempt.job_id and last[1] in TERMINAL


def _is_open(ev: Eval, job: Job) -> bool:
    attempts = [a for a in ev.attempts if a.job_id == job.job_id]
    if job.missing_at is not None and not ev.final:
        return True
    for number, attempt in enumerate(attempts):
        last = number + 1 == len(attempts)
        ended = not last or attempt.queue_state in TERMINAL
        # Of one that never ran there is little to know: one answer is enough, whatever it says.
        owed = attempt.figures is None if attempt.ran else not (ev.final and job.answered_at)
        if ended and owed and not _is_accounted(attempt):
            return True
    return False


def _is_accounted(attempt: Attempt) -> bool:
    over = attempt.account_state in TERMINAL or attempt.account_state is State.REQUEUED
    return over and (attempt.accounted is not None or not attempt.ran)


def _elapsed_s(ev: Eval, attempt: Attempt) -> float | None:
    if attempt.elapsed_s is not None:
        return attempt.elapsed_s
    number = [a for a in ev.attempts if a.job_id == attempt.job_id].index(attempt)
    own = next((o for o in ev.own if o.job_id == attempt.job_id and o.restart == number), None)
    return own.elapsed_s if own is not None else None
