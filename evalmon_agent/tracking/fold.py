"""How do facts change what is known: the one place that takes them in and says what happened.

Pure: no file, clock or process. Facts may come late, twice, and in any order: each is kept apart with the
time at which it was asked for, and the path is derived from all of them (`path`).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from evalmon_agent.figures.efficiency import from_sacct, with_limit
from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.events import Event, Measured, Transition
from evalmon_agent.tracking.facts import (
    AccountAnswer,
    Facts,
    Measurement,
    QueueAnswer,
    Registration,
    SelfReport,
)
from evalmon_agent.tracking.match import JobIndex, attempt_for_account, attempt_for_queue
from evalmon_agent.tracking.path import Step, attempts_of, is_final, own_of, steps
from evalmon_agent.tracking.records import Attempt, Eval, ExperimentState, Job, Own
from evalmon_agent.words.job_id import parse_job_id
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import ACTIVE, TERMINAL, State


def fold(state: ExperimentState, facts: Facts, *, lost_after_s: float) -> list[Event]:
    """Take the facts in, in place, and return what happened since the last fold, oldest first."""
    for registration in facts.registrations:
        _register(state, registration)
    index = JobIndex(state.evals.values())
    for report in facts.reports:
        _take_report(state, index, report)
    if facts.queue is not None:
        _take_queue(index, facts.queue)
    for account in facts.accounts:
        _take_account(index, account)
    events: list[Event] = []
    for ev in state.evals.values():
        events += _settle(ev, lost_after_s=lost_after_s)
    events += [e for m in facts.measurements for e in _take_measurement(state, m)]
    return events


def _register(state: ExperimentState, fact: Registration) -> tuple[Eval, Job]:
    ev = state.evals.get(fact.name)
    if ev is None:
        ev = state.evals[fact.name] = Eval(name=fact.name, job_id=fact.job_id)
        if state.recovered is not None:
            ev.logged = state.recovered.logged.pop(printable(fact.name), [])
    job = next((j for j in ev.jobs if j.job_id == fact.job_id), None)
    if job is None:
        job = Job(fact.job_id, fact.registered_at, fact.token)
        ev.jobs.append(job)
        ev.jobs.sort(key=lambda j: j.registered_at)
        ev.final = False
    elif job.token is None and fact.token is not None:
        job.token, job.registered_at = fact.token, fact.registered_at
    ev.job_id = ev.jobs[-1].job_id
    ev.script = fact.script or ev.script
    ev.output_dir = fact.output_dir or ev.output_dir
    return ev, job


def _take_report(state: ExperimentState, index: JobIndex, report: SelfReport) -> None:
    """A job that nobody registered but that reports to this experiment is one of its evals."""
    state.reported[report.source] = report.version
    job_id = parse_job_id(report.job_id)
    found = [] if job_id is None else index.of(job_id)
    if not found:
        first = min((o.started_at for o in report.attempts if o.started_at is not None), default=None)
        if report.name is None or first is None:
            return
        found = [_register(state, Registration(report.name, report.job_id, first, output_dir=report.output_dir))]
        index.add(*found[0])
    for ev, job in found:
        for own in report.attempts:
            # A het job is registered as 123 and reports as 123+0.
            _take_own(ev, own if own.job_id == job.job_id else replace(own, job_id=job.job_id))


def _take_own(ev: Eval, own: Own) -> None:
    known = own_of(ev, own.job_id, own.restart)
    if known is not None:
        if known == own or (known.ended and not own.ended):
            return
        ev.own.remove(known)
    ev.own.append(own)
    ev.own.sort(key=lambda o: (o.job_id, o.restart))
    ev.final = False
    have = sum(a.job_id == own.job_id for a in ev.attempts)
    ev.attempts.extend(Attempt(own.job_id) for _ in range(own.restart + 1 - have))
    attempts_of(ev, own.job_id)[own.restart][1].ran = True


def _take_queue(index: JobIndex, answer: QueueAnswer) -> None:
    seen: set[str] = set()
    for row in answer.rows:
        for ev, job in index.of(row.job_id):
            attempt = attempt_for_queue(ev, job, row, asked_at=answer.asked_at)
            if attempt is None:
                continue
            _take_row(attempt, row, asked_at=answer.asked_at)
            if row.state not in TERMINAL:
                seen.add(job.job_id)
                ev.final = False
    for ev, job in index.all():
        if job.job_id in seen:
            job.missing_at = job.unaccounted_at = None
        elif not ev.final and job.missing_at is None and job.registered_at < answer.asked_at:
            job.missing_at = answer.asked_at


def _take_row(attempt: Attempt, row: SqueueRow, *, asked_at: float) -> None:
    if asked_at < attempt.queue_at:
        return
    state = row.state if row.state is not None else State.RUNNING
    reason = row.reason if state is State.PENDING else ""
    if (state, reason) != (attempt.queue_state, attempt.queue_reason):
        # Only a change moves the time: a poll without news leaves the state file as it is.
        attempt.queue_at, attempt.queue_state, attempt.queue_reason = asked_at, state, reason
    attempt.time_limit_s = row.time_limit_s if row.time_limit_s is not None else attempt.time_limit_s
    attempt.node_list = row.node_list or attempt.node_list
    if attempt.queue_state in {State.RUNNING, State.SUSPENDED}:
        attempt.ran = True
        attempt.ends_at = row.ends_at
        if attempt.running_seen_at is None:
            attempt.running_seen_at = asked_at
        _take_suspension(attempt, attempt.queue_state, at=asked_at)
    attempt.ran = attempt.ran or bool(attempt.queue_state in TERMINAL and (row.elapsed_s or row.node_list))
    if attempt.account_state in {None, *ACTIVE}:
        if attempt.ran and row.started_at is not None:
            attempt.started_at = row.started_at
        if attempt.queue_state in TERMINAL:
            attempt.ended_at = row.ends_at
            attempt.elapsed_s = row.elapsed_s


def _take_suspension(attempt: Attempt, state: State, *, at: float) -> None:
    last = attempt.suspensions[-1][1] if attempt.suspensions else State.RUNNING
    if state is not last:
        attempt.suspensions.append((at, state))


def _take_account(index: JobIndex, answer: AccountAnswer) -> None:
    if not answer.disabled:
        for row in answer.jobs:
            for ev, job in index.of(row.job_id):
                attempt = attempt_for_account(ev, job, row)
                if attempt is not None and answer.asked_at >= attempt.account_at:
                    _take_accounted(attempt, row, asked_at=answer.asked_at)
    for ev, job in index.named(answer.asked):
        job.answered_at = max(job.answered_at, answer.asked_at)
        job.no_accounting = answer.disabled
        last = next((a for a in reversed(ev.attempts) if a.job_id == job.job_id), None)
        ended = last is not None and last.account_state in TERMINAL
        if ended:
            job.unaccounted_at = None
        elif job.missing_at is not None:
            job.unaccounted_at = max(job.unaccounted_at or 0.0, answer.asked_at)


def _take_accounted(attempt: Attempt, row: SacctJob, *, asked_at: float) -> None:
    attempt.account_at = asked_at
    if row.state is None or (attempt.account_state in TERMINAL and row.state not in TERMINAL):
        return
    attempt.account_state = row.state
    attempt.ran = attempt.ran or row.ran
    attempt.started_at = row.started_at if row.ran else attempt.started_at
    attempt.node_list = row.node_list or attempt.node_list
    attempt.cpus, attempt.gpus = row.cpus, row.gpus
    attempt.time_limit_s = row.time_limit_s if row.time_limit_s is not None else attempt.time_limit_s
    if row.state in TERMINAL or row.state is State.REQUEUED:
        attempt.ended_at, attempt.elapsed_s = row.ended_at, row.elapsed_s
        attempt.exit_code, attempt.signal = row.exit_code, row.signal
        attempt.accounted = with_limit(from_sacct(row), attempt.time_limit_s) if row.whole else None


def _take_measurement(state: ExperimentState, fact: Measurement) -> Iterator[Event]:
    ev = state.evals.get(fact.name)
    if ev is None:
        return
    for number, attempt in enumerate(ev.attempts):
        same = (attempt.job_id, attempt.submitted_at) == (fact.job_id, fact.submitted_at)
        if same and attempt.figures is None:
            attempt.figures, attempt.evidence = fact.figures, fact.evidence
            if _was_measured(state, ev.name, attempt.job_id):
                continue
            yield Measured(ev.name, attempt.job_id, number)


def _was_measured(state: ExperimentState, name: str, job_id: str) -> bool:
    """Whether a lost state's log has the block already; each block counts once."""
    jobs = state.recovered.measured.get(printable(name), []) if state.recovered is not None else []
    if job_id not in jobs:
        return False
    jobs.remove(job_id)
    return True


def _settle(ev: Eval, *, lost_after_s: float) -> list[Event]:
    """Bring the log up to the path: what is new on it, or one correction where it took another turn."""
    if ev.final:
        return []
    path = steps(ev, lost_after_s=lost_after_s)
    ev.state = path[-1].state
    ev.final = is_final(ev, path)
    logged = [(job_id, state) for job_id, state in ev.logged]
    derived = _without_registrations(path)
    keys = [(step.job_id, step.state) for step, _ in derived]
    if logged == keys[: len(logged)]:
        new = derived[len(logged) :]
    elif keys == logged[: len(keys)]:
        return []
    else:
        new = _correction(derived, previous=logged[-1][1])
    ev.logged = keys
    return [Transition(ev.name, step.job_id, previous, step.state, step.at, step.attempt) for step, previous in new]


def _without_registrations(path: list[Step]) -> list[tuple[Step, State]]:
    """Each step with the state before it; a job's registration is PENDING without a line of its own."""
    pairs: list[tuple[Step, State]] = []
    previous = State.PENDING
    for step in path:
        if step.state is not State.PENDING or step.attempt is not None:
            pairs.append((step, previous))
        previous = step.state
    return pairs


def _correction(derived: list[tuple[Step, State]], *, previous: State) -> list[tuple[Step, State]]:
    if not derived or derived[-1][0].state is previous:
        return []
    return [(derived[-1][0], previous)]
