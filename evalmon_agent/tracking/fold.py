"""How do facts change what is known: the one place that takes them in and says what happened.

Pure: no file, clock or process. Facts may come late, twice, and in any order: each is kept apart (`take`), and the
path is derived from all of them (`path`). What is promised, precisely, stands in tests/tracking/test_any_order.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalmon_agent.tracking.events import Event, Measured, Transition
from evalmon_agent.tracking.facts import Facts, Measurement
from evalmon_agent.tracking.match import JobIndex, arrange, is_borne
from evalmon_agent.tracking.path import Step, is_final, steps
from evalmon_agent.tracking.records import Eval, ExperimentState
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
    if ev.own:
        arrange(ev)
    path = steps(ev, lost_after_s=lost_after_s)
    ev.state = path[-1].state
    ev.final = is_final(ev, path)
    stamps = [attempt.submitted_at for attempt in ev.attempts]
    known = ev.logged_stamps if len(ev.logged_stamps) == len(ev.logged) else [None] * len(ev.logged)
    new = list(unlogged(path, ev.logged, stamps=stamps, logged_stamps=known))
    ev.logged += [(step.job_id, step.state) for step, _ in new]
    ev.logged_stamps = [*known, *(_end_of(step, stamps) for step, _ in new)]
    return [
        Transition(ev.name, step.job_id, previous, step.state, step.at, step.attempt, step.witness)
        for step, previous in new
    ]


def _end_of(step: Step, stamps: Sequence[float | None]) -> float | None:
    """Whose end this is. Of a start that is not sure: it may turn out to have been an earlier attempt's."""
    return stamps[step.attempt] if step.state in TERMINAL and step.attempt is not None else None


def _take_measurement(state: ExperimentState, fact: Measurement) -> Iterator[Event]:
    ev = state.evals.get(fact.name)
    if ev is None:
        return
    for number, attempt in enumerate(ev.attempts):
        same = (attempt.job_id, attempt.submitted_at, attempt.restart) == (fact.job_id, fact.submitted_at, fact.restart)
        if same and attempt.figures is None:
            attempt.figures, attempt.evidence = fact.figures, fact.evidence
            if not _was_measured(state, ev.name, attempt.job_id):
                yield Measured(ev.name, attempt.job_id, number)


def _was_measured(state: ExperimentState, name: str, job_id: str) -> bool:
    """Whether a lost state's log has the block already; each block counts once."""
    jobs = state.recovered.measured.get(printable(name), []) if state.recovered is not None else []
    if job_id not in jobs:
        return False
    jobs.remove(job_id)
    return True
