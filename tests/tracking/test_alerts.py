"""An eval that runs without a report is told of once; one that reports, or was adopted, never."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.alerts import may_need_a_person, newly_unreported
from evalmon_agent.tracking.fold import Facts
from evalmon_agent.tracking.records import Alert
from evalmon_agent.words.states import State
from tracking.rows import NAME, T, Told, queue, registered, report, reported, row, told

RUNNING = row(State.RUNNING, start=5)


def alerted(found: Told, *, at: float) -> list[str]:
    evals = newly_unreported(found.state.evals.values(), now=T + at, poll_interval_s=60.0)
    assert all(map(may_need_a_person, evals))
    for ev in evals:
        ev.jobs[-1].alerts.append(Alert("unreported", T + at))
    return [ev.name for ev in evals]


def test_it_is_told_once_after_two_polls() -> None:
    found = told(queue(10, RUNNING))
    assert ([], [NAME], []) == (alerted(found, at=70), alerted(found, at=130), alerted(found, at=190))


@pytest.mark.parametrize("state", [State.SUSPENDED, State.COMPLETED])
def test_only_of_what_squeue_shows_running(state: State) -> None:
    assert [] == alerted(told(queue(10, RUNNING), queue(60, row(state, start=5, end=50))), at=600)


def test_not_of_one_that_reports() -> None:
    assert [] == alerted(told(queue(10, RUNNING), report(reported(start=6))), at=600)


def test_not_of_a_job_that_somebody_else_submitted() -> None:
    adopted = Told(Facts(registrations=[registered(token=None)]), queue(10, RUNNING))
    assert [] == alerted(adopted, at=600)


def test_a_new_attempt_must_report_anew() -> None:
    again = row(State.RUNNING, submit=57, start=180)
    found = told(queue(10, RUNNING), report(reported(start=6)), queue(200, again))
    assert ([], [NAME]) == (alerted(found, at=260), alerted(found, at=320))
