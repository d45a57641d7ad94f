"""Whose row is it: Slurm's rows to our jobs and their attempts, recycled ids kept out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.path import attempts_of, paired
from evalmon_agent.tracking.records import Attempt, Eval, Job
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

CLOCK_SLACK_S = 60.0
"""How far before our own sbatch a Submit time may lie; what is older belongs to an earlier bearer of the id."""

RUNS_AGAIN = MAY_RUN_AGAIN | {State.REQUEUED}
"""What accounting says of an attempt that Slurm itself follows by another."""

Tracked = tuple[Eval, Job]


class JobIndex:
    """The jobs of all evals by id, of those with one id the latest first.

    A het job is registered as 123; its batch script runs in 123+0, and Slurm's rows say so.
    """

    def __init__(self, evals: Iterable[Eval]) -> None:
        self._jobs: dict[str, list[Tracked]] = {}
        for ev in evals:
            for job in ev.jobs:
                self.add(ev, job)

    def add(self, ev: Eval, job: Job) -> None:
        """Take in one more job."""
        bearers = self._jobs.setdefault(_key(job.job_id), [])
        bearers.append((ev, job))
        bearers.sort(key=lambda tracked: -tracked[1].registered_at)

    def of(self, job_id: JobId | str) -> list[Tracked]:
        """The jobs that bear or bore this id."""
        return self._jobs.get(_key(str(job_id)), [])

    def all(self) -> Iterator[Tracked]:
        """Every job with its eval."""
        for bearers in self._jobs.values():
            yield from bearers

    def in_queue(self, row: SqueueRow) -> Tracked | None:
        """The job that this row of squeue's speaks of."""
        for ev, job in self.of(row.job_id):
            if job.token is not None and row.command.startswith("/"):
                # A script's path tells without any clock: our launcher has the token in it.
                if f"/{job.token}/" in row.command:
                    return ev, job
            elif row.submitted_at is None or not _is_another(ev, job, row.submitted_at):
                return ev, job
        return None

    def in_accounts(self, row: SacctJob) -> Tracked | None:
        """The job that this row of sacct's speaks of; None too for a row that does not say which attempt it is."""
        submitted_at = row.submitted_at
        if submitted_at is None:
            return None
        for ev, job in self.of(row.job_id):
            known = any(a.submitted_at == submitted_at for _, a in attempts_of(ev, job.job_id))
            if known or not _is_anothers_row(ev, job, row, submitted_at):
                return ev, job
        return None


def attempt_for(ev: Eval, job: Job, submitted_at: float) -> Attempt:
    """The job's attempt with this Submit; a new one if it is not known yet."""
    for _, attempt in attempts_of(ev, job.job_id):
        if attempt.submitted_at == submitted_at:
            return attempt
    attempt = Attempt(job.job_id, submitted_at)
    ev.attempts.append(attempt)
    arrange(ev)
    return attempt


def arrange(ev: Eval) -> None:
    """Attempts in the order of their jobs, then of time; one more for each report of an attempt Slurm does not know."""
    arranged: list[Attempt] = []
    for job in ev.jobs:
        # Slurm's attempts by Submit first: they are laid beside the reports in this order.
        ev.attempts.sort(key=lambda a: (a.submitted_at is None, a.submitted_at or 0.0))
        unknown = {a.restart: a for _, a in attempts_of(ev, job.job_id) if a.submitted_at is None}
        for attempt, own in paired(ev, job.job_id):
            if attempt is not None:
                _inherit(attempt, unknown.get(own.restart) if own is not None else None)
                arranged.append(attempt)
            elif own is not None:
                arranged.append(unknown.get(own.restart) or Attempt(job.job_id, restart=own.restart))
    ev.attempts = arranged
    latest = {attempt.job_id: attempt for attempt in ev.attempts}
    for attempt in latest.values():
        attempt.superseded_at = None


def _inherit(attempt: Attempt, unknown: Attempt | None) -> None:
    """Slurm turns out to know an attempt that only its report was known of: what was found out of that one stays."""
    if unknown is None:
        return
    attempt.superseded_at = attempt.superseded_at or unknown.superseded_at
    if attempt.figures is None:
        attempt.figures, attempt.evidence = unknown.figures, unknown.evidence


def _key(job_id: str) -> str:
    return job_id.removesuffix("+0")


def _is_anothers_submit(ev: Eval, job: Job, submitted_at: float) -> bool:
    """Whether accounting's row is of an earlier or a later bearer of the id: it names no script that could tell.

    A later Submit is ours if Slurm would run the attempt before it again (or lost its row, with its node), or if a
    later report of ours has no attempt yet.
    """
    earlier = [a for _, a in attempts_of(ev, job.job_id) if (a.submitted_at or submitted_at) < submitted_at]
    if not earlier:
        return _is_before(ev, job, submitted_at)
    if earlier[-1].account_state is None or earlier[-1].account_state in RUNS_AGAIN:
        return False
    since = (earlier[-1].submitted_at or 0.0) - CLOCK_SLACK_S
    unmatched = [own for attempt, own in paired(ev, job.job_id) if attempt is None and own is not None]
    return not any(own.restart >= len(earlier) and (own.started_at or since) >= since for own in unmatched)


def _is_another(ev: Eval, job: Job, submitted_at: float) -> bool:
    """Whether a job in the queue with this Submit is an earlier bearer of our job's id."""
    if job.token is None:
        return job.submitted_at is not None and submitted_at < job.submitted_at
    return _is_before(ev, job, submitted_at)


def _is_anothers_row(ev: Eval, job: Job, row: SacctJob, submitted_at: float) -> bool:
    """Whether this row of accounting's is an earlier bearer's; of an adopted job, attempts before it may be its own."""
    if job.token is not None:
        return _is_anothers_submit(ev, job, submitted_at)
    if row.ended_at is not None and row.ended_at < job.registered_at - CLOCK_SLACK_S:
        return True
    if job.submitted_at is not None and submitted_at < job.submitted_at:
        return row.state in TERMINAL - MAY_RUN_AGAIN
    has_earlier = any((a.submitted_at or submitted_at) < submitted_at for _, a in attempts_of(ev, job.job_id))
    return has_earlier and _is_anothers_submit(ev, job, submitted_at)


def is_borne(bearers: Iterable[Tracked], submitted_at: float) -> bool:
    """Whether one of these, who bear or bore one id, is the job with this Submit."""
    for ev, job in bearers:
        known = [attempt.submitted_at for _, attempt in attempts_of(ev, job.job_id)]
        if not ev.final or not known or None in known or max(s for s in known if s is not None) >= submitted_at:
            return True
    return False


def _is_before(ev: Eval, job: Job, submitted_at: float) -> bool:
    """Whether this Submit lies before our sbatch: before its time, and before the first Submit that is ours."""
    known = [a.submitted_at for _, a in attempts_of(ev, job.job_id) if a.submitted_at is not None]
    return submitted_at < min([job.registered_at - CLOCK_SLACK_S, *known])
