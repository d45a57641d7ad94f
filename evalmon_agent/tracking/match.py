"""Finds the job and the attempt that a row of Slurm's speaks of; recycled ids are kept out. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.attempts import align, unmatched_reports
from evalmon_agent.tracking.records import Attempt, Eval, Job
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

CLOCK_SLACK_S = 60.0
"""How far before our own sbatch a Submit time may lie; what is older belongs to an earlier bearer of the id."""

RUNS_AGAIN = MAY_RUN_AGAIN | {State.REQUEUED}
"""What accounting says of an attempt that Slurm itself follows by another."""

Tracked = tuple[Eval, Job]


class JobIndex:
    """The jobs of all evals by id, of those with one id the latest first."""

    def __init__(self, evals: Iterable[Eval]) -> None:
        self._jobs: dict[JobId, list[Tracked]] = {}
        for ev in evals:
            for job in ev.jobs:
                self.add(ev, job)

    def add(self, ev: Eval, job: Job) -> None:
        """Take in one more job."""
        bearers = self._jobs.setdefault(job.job_id, [])
        bearers.append((ev, job))
        self.sort(job.job_id)

    def sort(self, job_id: JobId) -> None:
        """Put those of one id in order anew, after one turned out to be registered at another time."""
        self.of(job_id).sort(key=lambda tracked: -tracked[1].registered_at)

    def of(self, job_id: JobId) -> list[Tracked]:
        """The jobs that bear or bore this id."""
        return self._jobs.get(job_id, [])

    def in_queue(self, row: SqueueRow) -> Tracked | None:
        """The job that this row of squeue's speaks of."""
        for ev, job in self.of(row.job_id):
            if job.token is not None and row.command.startswith("/"):
                # A script's path tells without any clock: our launcher has the token in it.
                if f"/{job.token}/" in row.command:
                    return ev, job
            elif row.submitted_at is None or not _is_another(job, row.submitted_at):
                return ev, job
        return None

    def in_accounts(self, row: SacctJob) -> Tracked | None:
        """The job that this row of sacct's speaks of; None too for a row that does not say which attempt it is."""
        submitted_at = row.submitted_at
        if submitted_at is None:
            return None
        for ev, job in self.of(row.job_id):
            is_known = any(attempt.submitted_at == submitted_at for attempt in job.attempts)
            if is_known or not _is_anothers_row(job, row, submitted_at):
                return ev, job
        return None


def attempt_for(job: Job, submitted_at: float) -> Attempt:
    """The job's attempt with this Submit; a new one if it is not known yet."""
    for attempt in job.attempts:
        if attempt.submitted_at == submitted_at:
            return attempt
    attempt = Attempt(submitted_at)
    job.attempts.append(attempt)
    align(job)
    return attempt


def _is_anothers_submit(job: Job, submitted_at: float) -> bool:
    """Whether accounting's row is of an earlier or a later bearer of the id: it names no script that could tell.

    A later Submit is ours if Slurm would run the attempt before it again (or lost its row, with its node), or if a
    later report of ours has no attempt yet.
    """
    earlier = [a for a in job.attempts if (a.submitted_at or submitted_at) < submitted_at]
    if not earlier:
        return _is_before(job, submitted_at)
    if earlier[-1].account_state is None or earlier[-1].account_state in RUNS_AGAIN:
        return False
    since = (earlier[-1].submitted_at or 0.0) - CLOCK_SLACK_S
    unmatched = unmatched_reports(job)
    return not any(r.restart >= len(earlier) and (r.started_at or since) >= since for r in unmatched)


def _is_another(job: Job, submitted_at: float) -> bool:
    """Whether a job in the queue with this Submit is an earlier bearer of our job's id."""
    if job.token is None:
        return job.submitted_at is not None and submitted_at < job.submitted_at
    return _is_before(job, submitted_at)


def _is_anothers_row(job: Job, row: SacctJob, submitted_at: float) -> bool:
    """Whether this row of accounting's is an earlier bearer's; of an adopted job, attempts before it may be its own."""
    if job.token is not None:
        return _is_anothers_submit(job, submitted_at)
    if row.ended_at is not None and row.ended_at < job.registered_at - CLOCK_SLACK_S:
        return True
    if job.submitted_at is not None and submitted_at < job.submitted_at:
        return row.state in TERMINAL - MAY_RUN_AGAIN
    has_earlier = any((a.submitted_at or submitted_at) < submitted_at for a in job.attempts)
    return has_earlier and _is_anothers_submit(job, submitted_at)


def is_borne(bearers: Iterable[Tracked], submitted_at: float) -> bool:
    """Whether one of these, who bear or bore one id, is the job with this Submit."""
    for ev, job in bearers:
        submits = [attempt.submitted_at for attempt in job.attempts]
        if not ev.final or not submits or None in submits or max(s for s in submits if s is not None) >= submitted_at:
            return True
    return False


def _is_before(job: Job, submitted_at: float) -> bool:
    """Whether this Submit lies before our sbatch: before its time, and before the first Submit that is ours."""
    submits = [a.submitted_at for a in job.attempts if a.submitted_at is not None]
    return submitted_at < min([job.registered_at - CLOCK_SLACK_S, *submits])
