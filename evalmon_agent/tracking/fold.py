"""How do facts change what is known: the one place that takes them in and says what happened.

Pure: no file, clock or process. Facts may come late, twice, and in any order: each is kept apart (`take`), and the
path is derived from all of them (`path`). What is promised, precisely, stands in tests/tracking/test_any_order.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from evalmon_agent.tracking.attempts import align
from evalmon_agent.tracking.events import Event, Measured, Transition
from evalmon_agent.tracking.facts import Facts, Measurement
from evalmon_agent.tracking.match import JobIndex, is_borne
from evalmon_agent.tracking.path import Step, is_final, steps
from evalmon_agent.tracking.records import Eval, ExperimentState, Logged
from evalmon_agent.tracking.registry import Registration
from evalmon_agent.tracking.take import take_account, take_queue, take_registration, take_report
from evalmon_agent.tracking.unlogged import unlogged
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import TERMINAL


def fold(state: ExperimentState, facts: Facts, *, lost_after_s: float) -> list[Event]:
    """Take the facts in, in place, and return what happened since the last fold, oldest first."""
    adopted = [r for r in facts.registrations if r.submitted_at is not None]
    for registration in facts.registrations:
        if registration.submitted_at is None:
            take_registration(state, registration)
    index = JobIndex(state.evals.values())
    for registration in adopted:
        _adopt(state, index, registration)
    for report in facts.reports:
        take_report(state, index, report, queue=facts.queue)
    if facts.queue is not None:
        take_queue(index, facts.queue)
    for account in facts.accounts:
        take_account(index, account)
    events: list[Event] = []
    for ev in state.evals.values():
        events += _settle(ev, lost_after_s=lost_after_s)
    events += [e for m in facts.measurements for e in _take_measurement(state, m)]
    return events


def _adopt(state: ExperimentState, index: JobIndex, fact: Registration) -> None:
    """Take in a job that `watch` adopted; one that an eval has already, since it reported itself, is that eval's."""
    if fact.submitted_at is None or not is_borne(index.of(fact.job_id), fact.submitted_at):
        index.add(*take_registration(state, fact))


def _settle(ev: Eval, *, lost_after_s: float) -> list[Event]:
    """Bring state and log up to the path."""
    if ev.final:
        return []
    for job in ev.jobs:
        if any(attempt.report is not None for attempt in job.attempts):
            align(job)
    path = steps(ev, lost_after_s=lost_after_s)
    ev.state = path[-1].state
    ev.final = is_final(ev, path)
    new = list(unlogged(path, ev.logged))
    ev.logged += [_logged(step) for step, _ in new]
    return [
        Transition(ev.name, step.job_id, previous, step.state, step.at, step.attempt, step.witness)
        for step, previous in new
    ]


def _logged(step: Step) -> Logged:
    """Of an end, whose it is. Of a start that is not sure: it may turn out to have been an earlier attempt's."""
    ended = step.attempt if step.state in TERMINAL else None
    return Logged(step.job_id, step.state, ended.submitted_at if ended is not None else None)


def _take_measurement(state: ExperimentState, fact: Measurement) -> Iterator[Event]:
    ev = state.evals.get(fact.name)
    job = next((job for job in ev.jobs if job.job_id == fact.job_id), None) if ev is not None else None
    for attempt in job.attempts if job is not None else ():
        is_it = (attempt.submitted_at, attempt.restart) == (fact.submitted_at, fact.restart)
        if is_it and attempt.figures is None:
            attempt.figures, attempt.evidence = fact.figures, fact.evidence
            if not _was_measured(state, fact.name, fact.job_id):
                yield Measured(fact.name, fact.job_id, attempt)


def _was_measured(state: ExperimentState, name: str, job_id: str) -> bool:
    """Whether a lost state's log has the block already; each block counts once."""
    jobs = state.recovered.measured.get(printable(name), []) if state.recovered is not None else []
    if job_id not in jobs:
        return False
    jobs.remove(job_id)
    return True
