"""Lists the jobs that accounting must still be asked about, and the attempts still to be measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evalmon_agent.tracking.records import Attempt, Eval, ExperimentState, Job
from evalmon_agent.tracking.timeline import ACCOUNTING_LAG_S, ENDS, is_history_known, replaced_at
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """An attempt that ran and ended, and whose figures are not captured yet."""

    ev: Eval
    job: Job
    attempt: Attempt

    @property
    def key(self) -> tuple[str, JobId, float | None, int | None]:
        """Identifies it in any copy of the state: name, job id, Submit, restart."""
        return self.ev.name, self.job.job_id, self.attempt.submitted_at, self.attempt.restart

    @property
    def is_latest(self) -> bool:
        """Whether seff knows it; seff knows only a job's last attempt."""
        return self.attempt is self.job.latest

    @property
    def elapsed_s(self) -> float | None:
        """How long it ran, by Slurm, else by its own report."""
        report = self.attempt.report
        return self.attempt.elapsed_s if self.attempt.elapsed_s is not None or report is None else report.elapsed_s


def ids_to_account(ev: Eval) -> list[JobId]:
    """The ids of its jobs to ask sacct about: missing or ended in squeue, requeued, or ended without figures."""
    return [] if _is_settled(ev) else [job.job_id for job in ev.jobs if _is_open(ev, job)]


def in_order(job_ids: Iterable[JobId]) -> list[JobId]:
    """Older jobs first."""
    return sorted(job_ids, key=lambda job_id: (len(job_id), job_id))


def unmeasured(state: ExperimentState) -> Iterator[Unmeasured]:
    """The attempts whose COMPUTE_METRICS is still owed."""
    return (owed for ev in state.evals.values() for owed in owed_by(ev))


def owed_by(ev: Eval) -> Iterator[Unmeasured]:
    """The same for one eval."""
    for job in ev.jobs:
        for attempt in job.attempts:
            if attempt.figures is None and attempt.has_run and _is_over(ev, job, attempt):
                yield Unmeasured(ev, job, attempt)


def _is_over(ev: Eval, job: Job, attempt: Attempt) -> bool:
    """Whether a later attempt follows, or the log says that the job has ended."""
    return attempt is not job.latest or ev.logged_state(job.job_id) in TERMINAL


def _is_settled(ev: Eval) -> bool:
    """Whether accounting has reported everything, as for most of a large experiment, which must cost a poll nothing."""
    if not ev.final or len(ev.jobs) > 1 or ev.latest is None:
        return False
    return all(a.account_state in ENDS and a.accounted is not None for a in ev.jobs[0].attempts)


def _is_open(ev: Eval, job: Job) -> bool:
    latest = job.latest
    is_over = latest is not None and (latest.account_state in TERMINAL or latest.queue_state in TERMINAL)
    if job.missing_at is not None and not ev.final and not (is_over and job.job_id != ev.job_id):
        return True
    if latest is not None and not is_history_known(job, latest):
        return True
    return any(_is_owed(ev, job, attempt) for attempt in job.attempts)


def _is_owed(ev: Eval, job: Job, attempt: Attempt) -> bool:
    """Whether accounting has not yet reported how an ended attempt ended, or what it used."""
    since = replaced_at(attempt)
    ended = attempt is not job.latest or since is not None or attempt.queue_state in TERMINAL
    if not ended or _is_accounted(attempt):
        return False
    if since is not None and job.answered_at < since + ACCOUNTING_LAG_S:
        return True
    # There is little to know about an attempt that never ran: one answer is enough.
    return attempt.figures is None if attempt.has_run else not (ev.final and job.answered_at)


def _is_accounted(attempt: Attempt) -> bool:
    return attempt.account_state in ENDS and (attempt.accounted is not None or not attempt.has_run)
