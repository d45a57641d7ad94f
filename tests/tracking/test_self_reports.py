"""Tests the jobs' own reports: they decide where Slurm does not answer, are marked so, and never decide too early."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import (
    JOB,
    NAME,
    TOKEN,
    T,
    Told,
    account,
    accounts,
    no_accounts,
    queue,
    registered,
    report,
    reported,
    row,
    told,
)

RUNNING = row(State.RUNNING, start=5)


@pytest.mark.survives("F17")
@pytest.mark.parametrize(
    ("end", "state"),
    [
        ({"exit_code": 0}, State.COMPLETED),
        ({"exit_code": 3}, State.FAILED),
        ({"signal": 9}, State.FAILED),
    ],
)
def test_without_accounting_the_report_decides_once_squeue_lacks_the_job(end: dict[str, int], state: State) -> None:
    found = told(queue(20, RUNNING), report(reported(start=6, end=50, **end)))
    assert (["PENDING>RUNNING"], False) == (found.path, found.eval.final)
    found.take(queue(60), no_accounts(60))
    assert (["PENDING>RUNNING", f"RUNNING>{state}"], True) == (found.path, found.eval.final)
    assert ("self", T + 50) == (found.last.witness, found.last.at)


def test_without_accounting_squeues_last_state_outweighs_the_report() -> None:
    ended = report(reported(start=6, end=50, signal=15))
    found = told(ended, queue(60, row(State.TIMEOUT, start=5, end=51)), no_accounts(60))
    assert (["PENDING>RUNNING", "RUNNING>TIMEOUT"], "squeue") == (found.path, found.last.witness)


@pytest.mark.survives("F17")
def test_without_accounting_a_job_whose_report_has_no_end_is_lost_in_the_end() -> None:
    found = told(queue(20, RUNNING), report(reported(start=6)))
    for n in range(31):
        assert ["PENDING>RUNNING"] == found.path
        found.take(queue(60 * n + 60), no_accounts(60 * n + 60))
    assert ["PENDING>RUNNING", "RUNNING>LOST"] == found.path


@pytest.mark.survives("F17")
def test_without_accounting_and_report_a_job_is_lost_and_never_completed() -> None:
    found = told()
    for n in range(31):
        found.take(queue(60 * n + 60), no_accounts(60 * n + 60))
    assert ["PENDING>LOST"] == found.path


def test_the_end_of_a_part_of_a_job_is_not_the_end_of_the_job() -> None:
    found = told(report(reported(start=6, end=50, exit_code=0, whole_job=False)))
    found.take(*(facts for n in range(30) for facts in (queue(60 * n + 60), no_accounts(60 * n + 60))))
    assert ["PENDING>RUNNING"] == found.path


@pytest.mark.survives("F17")
def test_a_reported_end_waits_for_accounting_that_lags() -> None:
    found = told(queue(20, RUNNING), report(reported(start=6, end=50, signal=15)), queue(60), accounts(60))
    assert ["PENDING>RUNNING"] == found.path
    found.take(queue(120), accounts(120, account(State.TIMEOUT, start=5, end=51)))
    assert ["PENDING>RUNNING", "RUNNING>TIMEOUT"] == found.path


@pytest.mark.survives("F17")
def test_the_report_decides_if_accounting_has_nothing_for_two_minutes() -> None:
    found = told(queue(20, RUNNING), report(reported(start=6, end=50, exit_code=0)))
    for n in (60, 120, 180):
        assert ["PENDING>RUNNING"] == found.path
        found.take(queue(n), accounts(n))
    assert (["PENDING>RUNNING", "RUNNING>COMPLETED"], "self") == (found.path, found.last.witness)


def test_the_two_minutes_count_from_the_reported_end() -> None:
    gone = [facts for n in range(5) for facts in (queue(60 * n + 60), accounts(60 * n + 60))]
    found = told(queue(20, RUNNING), *gone, report(reported(start=6, end=290, exit_code=0)))
    assert ["PENDING>RUNNING"] == found.path
    found.take(queue(360), accounts(360, account(State.OUT_OF_MEMORY, start=5, end=291)))
    assert "RUNNING>OUT_OF_MEMORY" == found.path[-1]


def test_a_late_answer_of_accounting_corrects_the_report() -> None:
    found = told(queue(20, RUNNING), report(reported(start=6, end=50, signal=15)))
    found.take(*(facts for n in (60, 120, 180) for facts in (queue(n), accounts(n))))
    assert "RUNNING>FAILED" == found.path[-1]
    found.take(accounts(240, account(State.CANCELLED, start=5, end=51)))
    assert ("FAILED>CANCELLED", State.CANCELLED) == (found.path[-1], found.eval.state)


def test_a_report_alone_shows_that_the_job_is_running() -> None:
    found = told(report(reported(start=6)))
    assert (["PENDING>RUNNING"], T + 6) == (found.path, found.last.at)


@pytest.mark.survives("F18")
def test_two_restarts_have_a_report_each() -> None:
    reports = report(reported(0, start=6, end=50, signal=15), reported(1, start=200, end=300, exit_code=0))
    attempts = (account(State.REQUEUED, start=5, end=51), account(State.COMPLETED, submit=57, start=199, end=301))
    found = told(reports, queue(320), accounts(320, *attempts))
    expected = ["PENDING>RUNNING", "RUNNING>REQUEUED", "REQUEUED>PENDING", "PENDING>RUNNING", "RUNNING>COMPLETED"]
    assert expected == found.path
    assert [(0, 15), (1, None)] == [(o.restart, o.signal) for o in found.reports]
    assert [T + 1, T + 57] == [a.submitted_at for a in found.attempts]


def test_two_restarts_known_only_by_reports_are_two_attempts() -> None:
    found = told(report(reported(0, start=6, end=50, signal=15), reported(1, start=200, end=300, exit_code=0)))
    assert ["PENDING>RUNNING"] == found.path
    found.take(queue(320), no_accounts(320))
    expected = ["PENDING>RUNNING", "RUNNING>REQUEUED", "REQUEUED>PENDING", "PENDING>RUNNING", "RUNNING>COMPLETED"]
    assert expected == found.path


def test_the_second_restarts_report_may_come_before_slurms_answers() -> None:
    found = told(report(reported(1, start=200)), queue(210, row(State.RUNNING, submit=57, start=199)))
    assert ["PENDING>RUNNING"] == found.path
    first = account(State.NODE_FAIL, start=5, end=51)
    found.take(accounts(211, first, account(State.RUNNING, submit=57, start=199)))
    assert ["RUNNING>NODE_FAIL", "NODE_FAIL>PENDING", "PENDING>RUNNING"] == found.path[1:]
    assert 2 == len(found.attempts)


def test_a_report_that_is_read_again_changes_nothing() -> None:
    ended = report(reported(start=6, end=50, exit_code=0))
    found = told(report(reported(start=6)), ended)
    assert ([], 1) == (found.take(ended, report(reported(start=6))), len(found.reports))
    assert found.reports[0].ended


# Jobs that were never registered, or are registered later.


def test_a_job_that_reports_before_its_registration_is_the_same_job_afterwards() -> None:
    found = Told(report(reported(start=6, token=TOKEN), tokens=(TOKEN,)), Facts(registrations=[registered()]))
    assert ([JOB], T, TOKEN) == (
        [j.job_id for j in found.eval.jobs],
        found.eval.jobs[0].registered_at,
        found.eval.jobs[0].token,
    )
    assert ["PENDING>RUNNING"] == found.path


def test_an_unregistered_job_is_an_eval_with_its_own_name() -> None:
    found = Told(report(reported(start=7200, end=7300, exit_code=0), job_id="900", name="r/x"))
    done = account(State.COMPLETED, job_id="900", submit=1, start=7200, end=7301)
    found.take(queue(7400), accounts(7400, done, asked=("900",)))
    assert ("r/x", ["PENDING>RUNNING", "RUNNING>COMPLETED"]) == (found.eval.name, found.path)


def test_an_earlier_job_with_a_self_registered_jobs_id_is_another_job() -> None:
    found = Told(report(reported(start=7200), job_id="900", name="r/x"))
    older = account(State.FAILED, job_id="900", submit=-9000, start=-8000, end=-7000)
    found.take(queue(7400), accounts(7400, older, asked=("900",)))
    assert ["PENDING>RUNNING"] == found.path


def test_a_report_without_a_name_is_read_again_once_its_job_is_registered() -> None:
    nameless = report(reported(start=6), name=None)
    found = Told(nameless)
    assert ({}, {}) == (found.state.evals, found.state.reported)
    found.take(Facts(registrations=[registered()]), nameless)
    assert (["PENDING>RUNNING"], [f"{JOB}.json"]) == (found.path, list(found.state.reported))


@pytest.mark.survives("F18")
def test_a_report_of_another_submission_with_the_id_is_ignored() -> None:
    found = told(report(reported(start=-9000, end=-8000, exit_code=0), tokens=("old",)))
    assert ([], {}, {NAME}) == (found.path, found.state.reported, set(found.state.evals))


@pytest.mark.survives("F18")
def test_only_the_evals_own_attempts_count_in_a_report_that_outlived_an_id() -> None:
    old, ours = reported(start=-9000, end=-8000, exit_code=0, token="old"), reported(start=6, token=TOKEN)
    found = told(report(old, ours, tokens=("old", TOKEN)))
    assert [T + 6] == [o.started_at for o in found.reports]


@pytest.mark.survives("F18")
def test_the_batch_script_of_a_het_job_reports_for_the_whole_job() -> None:
    found = told(report(reported(start=6), job_id=f"{JOB}+0"))
    assert (["PENDING>RUNNING"], [JOB]) == (found.path, [job.job_id for job in found.eval.jobs])


def test_other_components_of_a_het_job_are_no_evals() -> None:
    found = told(report(reported(start=6), job_id=f"{JOB}+1"))
    assert ([], [JOB]) == (found.path, [job.job_id for job in found.eval.jobs])
