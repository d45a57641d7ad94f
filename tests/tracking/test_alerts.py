"""Tests that an eval which runs without a report is reported once, and never if it reports or was adopted."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import NAME, Told, queue, registered, report, reported, row, told

RUNNING = row(State.RUNNING, start=5)


def alerted(found: Told, *, at: float) -> list[str]:
    return [ev.name for ev, alert in found.alerts(at) if alert.kind == "unreported"]


def test_a_missing_report_is_reported_once_after_two_polls() -> None:
    found = told(queue(10, RUNNING))
    assert ([], [NAME], []) == (alerted(found, at=70), alerted(found, at=130), alerted(found, at=190))


@pytest.mark.parametrize("state", [State.SUSPENDED, State.COMPLETED])
def test_only_a_job_that_squeue_shows_running_is_reported(state: State) -> None:
    assert [] == alerted(told(queue(10, RUNNING), queue(60, row(state, start=5, end=50))), at=600)


def test_a_job_that_reports_itself_causes_no_alert() -> None:
    assert [] == alerted(told(queue(10, RUNNING), report(reported(start=6))), at=600)


def test_an_adopted_job_causes_no_alert() -> None:
    adopted = Told(Facts(registrations=[registered(token=None)]), queue(10, RUNNING))
    assert [] == alerted(adopted, at=600)


def test_each_attempt_must_report_itself() -> None:
    again = row(State.RUNNING, submit=57, start=180)
    found = told(queue(10, RUNNING), report(reported(start=6)), queue(200, again))
    assert ([], [NAME]) == (alerted(found, at=260), alerted(found, at=320))
