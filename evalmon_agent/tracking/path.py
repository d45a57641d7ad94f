"""Which states did an eval go through: its path, derived anew from all facts, so their order never matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evalmon_agent.tracking.records import Attempt, Eval, Job, Own
from evalmon_agent.tracking.reported import Known, Pair, pairs
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

Witness = Literal["sacct", "squeue", "self", "none"]

ACCOUNTING_LAG_S = 120.0
"""How long sacct may answer without a job that ended before another witness decides."""

FIRST_SUBMIT_S = 5.0
"""How long after our sbatch the Submit of a job's first attempt may lie; a later one points to a requeue."""

ENDS = TERMINAL | {State.REQUEUED}
"""What accounting says of an attempt that is over."""

LIVE = frozenset({State.RUNNING, State.SUSPENDED})


@dataclass(frozen=True, slots=True)
class Step:
    """One state on the path; `at` is when it began, if anybody knows. `attempt` indexes Eval.attempts.

    `witness` says who tells of an end; it is None for a state that is none.
    """

    job_id: JobId
    state: State
    at: float | None
    attempt: int | None
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, and who says so."""

    state: State
    at: float | None
    witness: Witness


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One attempt of a job, with the report of its own. `index`: its place in Eval.attempts."""

    index: int
    attempt: Attempt
    own: Own | None
    superseded: bool

    @property
    def ran(self) -> bool:
        """Whether it started, whoever says so."""
        return self.attempt.ran or self.own is not None


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
    """What the job reported under this SLURM_RESTART_COUNT."""
    return next((o for o in ev.own if o.job_id == job_id and o.restart == restart), None)


def incarnations(ev: Eval, job_id: str) -> list[Incarnation]:
    """The attempts of one job, oldest first, each with the report that is its own (`reported`)."""
    places = {id(attempt): index for index, attempt in attempts_of(ev, job_id)}
    unknown = {attempt.restart: attempt for _, attempt in attempts_of(ev, job_id) if attempt.submitted_at is None}
    known: list[tuple[Attempt, Own | None]] = []
    for slurms, own in paired(ev, job_id):
        attempt = unknown.get(own.restart) if slurms is None and own is not None else slurms
        if attempt is not None:
            known.append((attempt, own))
    return [
        Incarnation(places[id(attempt)], attempt, own, superseded=number + 1 < len(known))
        for number, (attempt, own) in enumerate(known)
    ]


def paired(ev: Eval, job_id: str) -> list[Pair]:
    """The job's attempts that Slurm knows, laid beside its reports, oldest first."""
    job = next(job for job in ev.jobs if job.job_id == job_id)
    attempts = [attempt for _, attempt in attempts_of(ev, job_id) if attempt.submitted_at is not None]
    begun = attempts[0].submitted_at if attempts else None
    is_first = job.token is not None and (begun is None or begun <= job.registered_at + FIRST_SUBMIT_S)
    owns = [own for own in ev.own if own.job_id == job_id]
    return pairs(attempts, owns, Known(is_first=is_first, is_queued=job.missing_at is None))


def ending(one: Incarnation, job: Job, *, lost_after_s: float) -> Ending | None:
    """How the attempt ended, or None while it goes on or nobody can tell.

    Accounting decides; then squeue's last word; then the job's own report; and only after `lost_after_s`
    without any of them, LOST.
    """
    said = slurm_says(one.attempt)
    if said is not None and one.attempt.account_state in ENDS:
        return Ending(said, one.attempt.ended_at, "sacct")
    if said is not None and one.attempt.queue_state in TERMINAL:
        return Ending(said, one.attempt.ended_at, "squeue")
    since = replaced_at(one)
    if one.superseded or since is not None:
        return _replaced(one.own, job, since=since)
    return _vanished(one, job, lost_after_s=lost_after_s)


def is_final(ev: Eval, path: list[Step]) -> bool:
    """Whether the eval's last job is over for good: nothing of Slurm's can start it again by itself.

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
    return asked_since or ev.attempts[last.attempt].queue_state in TERMINAL


def is_history_known(job: Job, attempt: Attempt) -> bool:
    """Whether no earlier attempt can be missing: squeue shows the latest only, accounting gets time to tell."""
    submitted_at = attempt.submitted_at
    if job.token is None or submitted_at is None or submitted_at <= job.registered_at + FIRST_SUBMIT_S:
        return True
    told = attempt.account_state is not None or job.answered_at >= submitted_at + ACCOUNTING_LAG_S
    return told or job.no_accounting


def slurm_says(attempt: Attempt) -> State | None:
    """Slurm's own last word on the attempt: accounting's where it tells of an end, else squeue's."""
    if attempt.account_state is not None and attempt.account_state in ENDS:
        return attempt.account_state
    return attempt.queue_state or attempt.account_state


def replaced_at(one: Incarnation) -> float | None:
    """Since when it is known that Slurm will run, or has run, this job again; None: not so, or not known."""
    if one.attempt.queue_state is State.REQUEUED and one.ran:
        return one.attempt.superseded_at or one.attempt.queue_at
    return one.attempt.superseded_at


def _job_steps(ev: Eval, job: Job, path: list[Step], *, lost_after_s: float) -> bool:
    """Append the job's steps; False if its end is not known (yet)."""
    known = incarnations(ev, job.job_id)
    if not known:
        lost = _vanished(None, job, lost_after_s=lost_after_s)
        if lost is not None:
            path.append(Step(job.job_id, lost.state, lost.at, None, lost.witness))
        return lost is not None
    for number, one in enumerate(known):
        if number:
            path.append(Step(job.job_id, State.PENDING, one.attempt.submitted_at, one.index))
        running = list(_running(one))
        if not is_history_known(job, one.attempt):
            path.extend(running[:1])
            return False
        path.extend(running)
        end = ending(one, job, lost_after_s=lost_after_s)
        if end is None:
            return False
        path.append(Step(job.job_id, end.state, end.at, one.index, end.witness))
    return path[-1].state in TERMINAL


def _running(one: Incarnation) -> Iterator[Step]:
    attempt, own = one.attempt, one.own
    started_at = attempt.started_at if attempt.started_at is not None or own is None else own.started_at
    if own is not None or attempt.running_seen_at is not None or (attempt.ran and started_at is not None):
        yield Step(attempt.job_id, State.RUNNING, started_at, one.index)
        for at, state in attempt.suspensions:
            yield Step(attempt.job_id, state, at, one.index)


def _replaced(own: Own | None, job: Job, *, since: float | None) -> Ending | None:
    """An attempt that a later one follows was requeued; which way, accounting gets time to say."""
    answered = since is not None and job.answered_at >= since + ACCOUNTING_LAG_S
    if job.no_accounting or answered:
        return Ending(State.REQUEUED, own.ended_at if own else None, "none")
    return None


def _vanished(one: Incarnation | None, job: Job, *, lost_after_s: float) -> Ending | None:
    """A job that neither squeue nor accounting knows any more."""
    if job.missing_at is None or job.unaccounted_at is None:
        return None
    own = one.own if one is not None else None
    if own is not None and own.ended and (job.no_accounting or job.unknown_s >= ACCOUNTING_LAG_S):
        return Ending(State.COMPLETED if own.exit_code == 0 else State.FAILED, own.ended_at, "self")
    if job.unknown_s >= lost_after_s and not (one is not None and _may_run(one.attempt, at=job.unaccounted_at)):
        return Ending(State.LOST, None, "none")
    return None


def _may_run(attempt: Attempt, *, at: float) -> bool:
    """Whether accounting calls it running and its limit is not over: squeue's silence is no proof then."""
    if attempt.account_state not in LIVE or attempt.started_at is None or attempt.time_limit_s is None:
        return False
    return at < attempt.started_at + attempt.time_limit_s
