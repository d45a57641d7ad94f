"""Tests which jobs sacct and seff are asked about, and when: as often as needed and no longer."""

from __future__ import annotations

from evalmon_agent.figures import Figures
from evalmon_agent.tracking.records import Measurement
from evalmon_agent.tracking.timeline import EndedAttempt, ids_to_account, in_order, unmeasured
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import (
    JOB,
    NAME,
    T,
    Told,
    account,
    accounts,
    launcher,
    queue,
    registered,
    report,
    reported,
    row,
    told,
)

RUNNING = row(State.RUNNING, start=5)
DONE = row(State.COMPLETED, start=5, end=55)
ACCOUNTED = account(State.COMPLETED, start=5, end=55)


def asked(found: Told) -> list[str]:
    return in_order({job_id for ev in found.state.evals.values() for job_id in ids_to_account(ev)})


def owed(found: Told) -> list[EndedAttempt]:
    return list(unmeasured(found.state))


def measured(job_id: str = JOB, submit: float = 1.0) -> Facts:
    return Facts(measurements=[Measurement((NAME, job_id, T + submit, None), Figures(elapsed_s=50.0))])


def test_accounting_is_not_asked_about_jobs_that_squeue_shows_active() -> None:
    assert [] == asked(told())
    assert [] == asked(told(queue(10, row(State.PENDING))))
    assert [] == asked(told(queue(10, RUNNING)))


def test_accounting_is_asked_about_jobs_gone_from_squeue_until_it_has_their_end() -> None:
    found = told(queue(10, RUNNING), queue(60))
    assert [JOB] == asked(found)
    found.take(accounts(60), queue(120))
    assert [JOB] == asked(found)
    found.take(accounts(120, ACCOUNTED))
    assert [] == asked(found)


def test_accounting_is_asked_about_jobs_that_squeue_shows_ended_until_it_has_figures() -> None:
    found = told(queue(60, DONE))
    assert (True, [JOB]) == (found.eval.final, asked(found))
    found.take(accounts(60))
    assert [JOB] == asked(found)
    found.take(accounts(120, ACCOUNTED))
    assert [] == asked(found)


def test_accounting_is_asked_again_about_an_incomplete_record() -> None:
    half = account(State.COMPLETED, start=5, end=55, whole=False)
    found = told(queue(60, DONE), accounts(60, half))
    assert ([JOB], None) == (asked(found), found.attempts[0].accounted)


def test_one_answer_is_enough_for_a_job_that_never_ran() -> None:
    found = told(queue(60, row(State.CANCELLED, end=55)))
    assert [JOB] == asked(found)
    found.take(accounts(60))
    assert [] == asked(found)


def test_accounting_is_asked_about_a_requeue_until_it_has_it() -> None:
    found = told(queue(10, RUNNING), queue(60, row(State.PENDING, submit=57)))
    assert [JOB] == asked(found)
    found.take(accounts(60, account(State.RUNNING, start=5)))
    assert [JOB] == asked(found)
    found.take(accounts(120, account(State.REQUEUED, start=5, end=55), account(State.PENDING, submit=57)))
    assert [] == asked(found)


def test_a_requeue_that_accounting_never_has_is_given_up_after_two_minutes() -> None:
    again = account(State.PENDING, submit=57)
    found = told(queue(10, RUNNING), queue(60, row(State.PENDING, submit=57)), accounts(60, again), measured())
    assert [JOB] == asked(found)
    found.take(accounts(180, again))
    assert [] == asked(found)


def test_accounting_is_asked_about_an_attempt_that_squeue_calls_requeued() -> None:
    assert [JOB] == asked(told(queue(10, RUNNING), queue(60, row(State.REQUEUED, start=5))))


def test_accounting_is_asked_about_a_job_first_shown_long_after_its_submission() -> None:
    found = told(queue(300, row(State.RUNNING, submit=200, start=250)))
    assert [JOB] == asked(found)
    found.take(accounts(300, account(State.RUNNING, submit=200, start=250)))
    assert [] == asked(found)


def test_accounting_is_not_asked_about_measured_ended_jobs_that_it_never_had() -> None:
    found = told(queue(60, DONE), accounts(60), measured())
    assert [] == asked(found)


def test_jobs_are_asked_about_in_the_order_of_their_ids() -> None:
    jobs = ["100", "9", "77_2", "77_10"]
    found = Told(Facts(registrations=[registered(f"r/{job}", job) for job in jobs]), queue(60))
    assert ["9", "100", "77_2", "77_10"] == asked(found)


def test_an_older_job_of_a_retried_eval_is_not_asked_about_once_its_end_is_known() -> None:
    found = told(queue(60, DONE), accounts(60, ACCOUNTED))
    found.take(Facts(registrations=[registered(job_id="200", at=100, token="9c")]))
    found.take(queue(120, row(State.RUNNING, job_id="200", submit=101, start=110, command=launcher("9c"))))
    assert [] == asked(found)


def test_a_running_attempt_owes_no_figures() -> None:
    assert [] == owed(told(queue(10, RUNNING)))
    assert [] == owed(told(queue(60, row(State.CANCELLED, end=55))))


def test_an_ended_attempt_owes_figures_until_they_are_captured() -> None:
    found = told(queue(60, DONE))
    [one] = owed(found)
    assert ((NAME, JOB, T + 1, None), True, 50.0) == (one.key, one.is_latest, one.attempt.ran_for_s)
    assert (None, 1800.0) == (one.attempt.accounted, one.attempt.time_limit_s)
    found.take(accounts(61, ACCOUNTED))
    assert found.attempts[0].accounted == owed(found)[0].attempt.accounted
    assert 1 == len(found.take(measured()))
    assert ([], 1) == (owed(found), len(found.measured))


def test_figures_that_come_twice_are_logged_once() -> None:
    found = told(queue(60, DONE))
    assert (1, 0) == (len(found.take(measured())), len(found.take(measured())))


def test_figures_of_unknown_attempts_or_evals_are_ignored() -> None:
    found = told(queue(60, DONE))
    assert [] == found.take(measured(submit=7))
    assert [] == found.take(Facts(measurements=[Measurement(("r/other", JOB, T + 1, None), Figures())]))


def test_each_attempt_owes_its_own_figures_and_seff_has_the_latest_only() -> None:
    first, second = account(State.REQUEUED, start=5, end=55), account(State.FAILED, submit=57, start=180, end=190)
    found = told(queue(10, RUNNING), queue(60, row(State.PENDING, submit=57)), accounts(60, first))
    assert [(T + 1, False)] == [(one.attempt.submitted_at, one.is_latest) for one in owed(found)]
    found.take(queue(200), accounts(200, first, second))
    assert [(T + 1, False), (T + 57, True)] == [(one.attempt.submitted_at, one.is_latest) for one in owed(found)]


def test_an_older_job_of_a_retried_eval_owes_its_figures_too() -> None:
    found = told(queue(60, DONE))
    found.take(Facts(registrations=[registered(job_id="200", at=100, token="9c")]))
    found.take(queue(120, row(State.RUNNING, job_id="200", submit=101, start=110, command=launcher("9c"))))
    assert [JOB] == [one.job.job_id for one in owed(found)]


def test_an_attempt_known_only_by_its_report_owes_figures_with_the_reports_time() -> None:
    restarts = report(reported(0, start=6, end=50, signal=15), reported(1, start=200, end=300, exit_code=0))
    found = told(restarts, queue(320), accounts(320, disabled=True))
    times = [(o.attempt.submitted_at, o.is_latest, o.attempt.ran_for_s) for o in owed(found)]
    assert [(None, False, 44.0), (None, True, 100.0)] == times
