"""Finds the job and the attempt of a row from Slurm; recycled ids are kept out. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.attempts import align, unmatched_reports
from evalmon_agent.tracking.records import Attempt, Eval, Job
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

CLOCK_SLACK_S = 60.0
"""How far before evalmon's sbatch a Submit time may lie; an older one belongs to an earlier job with the same id."""

RUNS_AGAIN = MAY_RUN_AGAIN | {State.REQUEUED}
"""The states in accounting of an attempt that Slurm itself runs again."""

Tracked = tuple[Eval, Job]


class JobIndex:
    """The jobs of all evals by id; where several share an id, latest first."""

    def __init__(self, evals: Iterable[Eval]) -> None:
        self._jobs: dict[JobId, list[Tracked]] = {}
        for ev in evals:
            for job in ev.jobs:
                self.add(ev, job)

    def add(self, ev: Eval, job: Job) -> None:
        """Add a job."""
        bearers = self._jobs.setdefault(job.job_id, [])
        bearers.append((ev, job))
        self.sort(job.job_id)

    def sort(self, job_id: JobId) -> None:
        """Sort the jobs of one id again, after the registration time of one has changed."""
        self.of(job_id).sort(key=lambda tracked: -tracked[1].registered_at)

    def of(self, job_id: JobId) -> list[Tracked]:
        """The jobs that have or had this id."""
        return self._jobs.get(job_id, [])

    def in_queue(self, row: SqueueRow) -> Tracked | None:
        """The job of this row of squeue."""
        for ev, job in self.of(row.job_id):
            if job.token is not None and row.command.startswith("/"):
                # The script's path decides without any clock: the launcher's path has the token in it.
                if f"/{job.token}/" in row.command:
                    return ev, job
            elif row.submitted_at is None or not _is_another(job, row.submitted_at):
                return ev, job
        return None

    def in_accounts(self, row: SacctJob) -> Tracked | None:
        """The job of this row of sacct; None also for a row that does not identify its attempt."""
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
    """Whether accounting's row belongs to an earlier or later job with the same id; it has no script to decide by.

    A later Submit is the same job's if Slurm would run the attempt before it again (or lost its row, with its node),
    or if a later report of the job has no attempt yet.
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
    """Whether a queued job with this Submit is an earlier job with the same id."""
    if job.token is None:
        return job.submitted_at is not None and submitted_at < job.submitted_at
    return _is_before(job, submitted_at)


def _is_anothers_row(job: Job, row: SacctJob, submitted_at: float) -> bool:
    """Whether accounting's row is of an earlier job with the same id; an adopted job may have earlier attempts."""
    if job.token is not None:
        return _is_anothers_submit(job, submitted_at)
    if row.ended_at is not None and row.ended_at < job.registered_at - CLOCK_SLACK_S:
        return True
    if job.submitted_at is not None and submitted_at < job.submitted_at:
        return row.state in TERMINAL - MAY_RUN_AGAIN
    has_earlier = any((a.submitted_at or submitted_at) < submitted_at for a in job.attempts)
    return has_earlier and _is_anothers_submit(job, submitted_at)


def is_borne(bearers: Iterable[Tracked], submitted_at: float) -> bool:
    """Whether one of these jobs, which share an id, is the job with this Submit."""
    for ev, job in bearers:
        submits = [attempt.submitted_at for attempt in job.attempts]
        if not ev.final or not submits or None in submits or max(s for s in submits if s is not None) >= submitted_at:
            return True
    return False


def _is_before(job: Job, submitted_at: float) -> bool:
    """Whether this Submit lies before evalmon's sbatch: before its time, and before the job's first known Submit."""
    submits = [a.submitted_at for a in job.attempts if a.submitted_at is not None]
    return submitted_at < min([job.registered_at - CLOCK_SLACK_S, *submits])
