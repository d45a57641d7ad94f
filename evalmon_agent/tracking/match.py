"""Whose row is it: Slurm's rows to our jobs and their attempts, recycled ids kept out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.path import attempts_of
from evalmon_agent.tracking.records import Attempt, Eval, Job
from evalmon_agent.words.job_id import JobId

CLOCK_SLACK_S = 60.0
"""How far before our own sbatch a Submit time may lie; what is older belongs to an earlier bearer of the id."""


class JobIndex:
    """The jobs of all evals by id. A het job is registered as 123; its batch script runs in 123+0."""

    def __init__(self, evals: Iterable[Eval]) -> None:
        self._jobs: dict[str, list[tuple[Eval, Job]]] = {}
        for ev in evals:
            for job in ev.jobs:
                self.add(ev, job)

    def add(self, ev: Eval, job: Job) -> None:
        """Take in a job that has come since."""
        self._jobs.setdefault(job.job_id, []).append((ev, job))

    def of(self, job_id: JobId) -> list[tuple[Eval, Job]]:
        """The evals that this row speaks of."""
        found = self._jobs.get(str(job_id), [])
        if not found and job_id.het == 0:
            return self._jobs.get(str(job_id.job), [])
        return found

    def named(self, job_ids: Iterable[str]) -> Iterator[tuple[Eval, Job]]:
        """The evals of these ids."""
        for job_id in job_ids:
            yield from self._jobs.get(job_id, [])

    def all(self) -> Iterator[tuple[Eval, Job]]:
        """Every job with its eval."""
        for pairs in self._jobs.values():
            yield from pairs


def attempt_for_queue(ev: Eval, job: Job, row: SqueueRow, *, asked_at: float) -> Attempt | None:
    """The attempt of a squeue row, made if new. squeue has only the latest attempt of a job."""
    attempts = [a for _, a in attempts_of(ev, job.job_id)]
    if row.submitted_at is None:
        return attempts[-1] if attempts else _insert(ev, Attempt(job.job_id))
    if _is_older_than_job(attempts, row.submitted_at):
        return None
    known = next((a for a in attempts if a.submitted_at == row.submitted_at), None)
    if known is not None:
        return known
    if attempts and attempts[-1].submitted_at is None:
        attempts[-1].submitted_at = row.submitted_at
        return attempts[-1]
    if attempts and attempts[-1].superseded_at is None:
        attempts[-1].superseded_at = asked_at
    return _insert(ev, Attempt(job.job_id, submitted_at=row.submitted_at))


def attempt_for_account(ev: Eval, job: Job, row: SacctJob) -> Attempt | None:
    """The attempt of a sacct row (with -D: of every attempt, in order), made if new."""
    attempts = [a for _, a in attempts_of(ev, job.job_id)]
    if row.submitted_at is None:
        return attempts[-1] if attempts else _insert(ev, Attempt(job.job_id))
    known = next((a for a in attempts if a.submitted_at == row.submitted_at), None)
    if known is not None:
        return known
    if row.submitted_at < job.registered_at - CLOCK_SLACK_S or _is_older_than_job(attempts, row.submitted_at):
        return None
    unknown = next((a for a in attempts if a.submitted_at is None), None)
    if unknown is not None:
        unknown.submitted_at = row.submitted_at
        return unknown
    return _insert(ev, Attempt(job.job_id, submitted_at=row.submitted_at))


def _is_older_than_job(attempts: list[Attempt], submitted_at: float) -> bool:
    first = next((a.submitted_at for a in attempts if a.submitted_at is not None), None)
    return first is not None and submitted_at < first - CLOCK_SLACK_S


def _insert(ev: Eval, attempt: Attempt) -> Attempt:
    """Keep the attempts in the order of their jobs, and of their submission within a job."""
    ev.attempts.append(attempt)
    order = {job.job_id: i for i, job in enumerate(ev.jobs)}
    ev.attempts.sort(key=lambda a: (order[a.job_id], a.submitted_at is None, a.submitted_at or 0.0))
    return attempt
