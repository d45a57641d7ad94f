"""Tests how an attempt ended, and whether that is final: one test for each case."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State
from tracking.rows import T, account, accounts, launcher, queue, registered, report, reported, row, told

RUNNING = row(State.RUNNING, start=5)
SLURMS_ENDS = sorted(TERMINAL - {State.LOST})


def test_a_registration_logs_nothing() -> None:
    found = told(queue(2, row(State.PENDING)))
    assert ([], State.PENDING, False) == (found.path, found.eval.state, found.eval.final)


@pytest.mark.parametrize("end", SLURMS_ENDS)
def test_each_terminal_state_of_sacct_is_logged_with_its_time(end: State) -> None:
    found = told(queue(10, RUNNING), queue(60), accounts(60, account(end, start=5, end=55)))
    assert ["PENDING>RUNNING", f"RUNNING>{end}"] == found.path
    assert (T + 55, "sacct", True) == (found.last.at, found.last.witness, found.eval.final)


@pytest.mark.parametrize("end", SLURMS_ENDS)
def test_squeues_last_state_is_enough(end: State) -> None:
    found = told(queue(10, RUNNING), queue(60, row(end, start=5, end=55)))
    assert ["PENDING>RUNNING", f"RUNNING>{end}"] == found.path
    assert (T + 55, "squeue", True) == (found.last.at, found.last.witness, found.eval.final)


def test_a_missed_running_state_is_reconstructed_from_the_start_time() -> None:
    found = told(queue(60, row(State.COMPLETED, start=5, end=55)))
    assert ["PENDING>RUNNING", "RUNNING>COMPLETED"] == found.path
    assert [T + 5, T + 55] == [event.step.at for event in found.events]


@pytest.mark.survives("F18")
def test_a_job_cancelled_before_its_start_was_never_running() -> None:
    found = told(queue(9, row(State.CANCELLED, end=8)))
    assert (["PENDING>CANCELLED"], 0.0) == (found.path, found.attempts[0].elapsed_s)


def test_completing_counts_as_running_until_slurm_reports_the_end() -> None:
    found = told(queue(60, row(State.RUNNING, start=5, state_word="COMPLETING")))
    assert (["PENDING>RUNNING"], State.RUNNING) == (found.path, found.eval.state)


def test_accounting_outweighs_squeue_that_still_shows_completing() -> None:
    found = told(accounts(60, account(State.FAILED, start=5, end=55)), queue(61, RUNNING))
    assert ["PENDING>RUNNING", "RUNNING>FAILED"] == found.path


def test_an_unknown_state_is_active_and_no_transition() -> None:
    found = told(queue(10, row(None, state_word="EXPLODING")), queue(20, row(None, state_word="EXPLODING")))
    assert ([], State.PENDING, None) == (found.path, found.eval.state, found.eval.jobs[0].missing_at)


def test_an_unknown_state_changes_nothing() -> None:
    found = told(queue(10, RUNNING), queue(20, row(None)))
    assert (["PENDING>RUNNING"], State.RUNNING) == (found.path, found.eval.state)


@pytest.mark.survives("F16")
def test_an_empty_squeue_while_sacct_says_running_changes_nothing() -> None:
    minutes = range(1, 61)
    empty = [facts for n in minutes for facts in (queue(60 * n), accounts(60 * n, account(State.RUNNING, start=5)))]
    found = told(queue(10, RUNNING), *empty[:60])
    assert (["PENDING>RUNNING"], State.RUNNING, False) == (found.path, found.eval.state, found.eval.final)


@pytest.mark.survives("F17")
def test_a_job_that_sacct_calls_running_is_not_lost_before_its_time_limit() -> None:
    found = told(queue(10, row(State.RUNNING, start=5, time_limit_s=6000.0)))
    running = account(State.RUNNING, start=5, time_limit_s=6000.0)
    for n in range(1, 100):
        found.take(queue(60 * n), accounts(60 * n, running))
    assert ["PENDING>RUNNING"] == found.path
    for n in range(100, 103):
        found.take(queue(60 * n), accounts(60 * n, running))
    assert ["PENDING>RUNNING", "RUNNING>LOST"] == found.path


@pytest.mark.survives("F16")
def test_a_job_missing_in_squeue_while_sacct_lags_changes_nothing() -> None:
    found = told(queue(10, RUNNING), queue(60), accounts(60))
    assert (["PENDING>RUNNING"], False) == (found.path, found.eval.final)
    found.take(queue(120), accounts(120, account(State.TIMEOUT, start=5, end=55)))
    assert ["PENDING>RUNNING", "RUNNING>TIMEOUT"] == found.path


@pytest.mark.survives("F17")
def test_a_purged_job_without_records_is_lost_and_never_completed() -> None:
    found = told(queue(10, RUNNING))
    for n in range(31):
        assert ["PENDING>RUNNING"] == found.path
        found.take(queue(60 * n + 60), accounts(60 * n + 60))
    assert (["PENDING>RUNNING", "RUNNING>LOST"], True) == (found.path, found.eval.final)
    assert (None, "none") == (found.last.at, found.last.witness)


def test_a_job_that_was_called_lost_and_reappears_continues_in_the_log() -> None:
    found = told(lost_after_s=60)
    found.take(*(facts for n in range(1, 4) for facts in (queue(60 * n), accounts(60 * n))))
    assert ["PENDING>LOST"] == found.path
    found.take(queue(300, row(State.RUNNING, start=5)))
    assert (State.RUNNING, False) == (found.eval.state, found.eval.final)
    found.take(accounts(400, account(State.COMPLETED, start=5, end=350)))
    assert ["PENDING>LOST", "LOST>RUNNING", "RUNNING>COMPLETED"] == found.path


def test_a_failed_query_changes_nothing() -> None:
    found = told(queue(10, RUNNING))
    before = found.attempts[0].queue_at
    assert ([], before) == (found.take(queue(70, RUNNING)), found.attempts[0].queue_at)


@pytest.mark.survives("F18")
@pytest.mark.parametrize("end", sorted(MAY_RUN_AGAIN))
def test_a_state_that_slurm_may_requeue_is_final_once_squeue_lacks_the_job(end: State) -> None:
    found = told(queue(10, RUNNING), accounts(60, account(end, start=5, end=55)))
    assert (["PENDING>RUNNING", f"RUNNING>{end}"], False) == (found.path, found.eval.final)
    found.take(queue(120))
    assert not found.eval.final
    found.take(accounts(121, account(end, start=5, end=55)))
    assert (["PENDING>RUNNING", f"RUNNING>{end}"], True) == (found.path, found.eval.final)


@pytest.mark.survives("F18")
@pytest.mark.parametrize("end", sorted(MAY_RUN_AGAIN))
def test_a_requeued_job_continues_with_a_new_attempt(end: State) -> None:
    found = told(queue(10, RUNNING), accounts(60, account(end, start=5, end=55)))
    found.take(queue(61, row(State.PENDING, submit=57)), accounts(61, account(State.PENDING, submit=57)))
    assert ["PENDING>RUNNING", f"RUNNING>{end}", f"{end}>PENDING"] == found.path
    assert (State.PENDING, False) == (found.eval.state, found.eval.final)
    found.take(queue(200, row(State.COMPLETED, submit=57, start=180, end=199)))
    assert ["PENDING>RUNNING", "RUNNING>COMPLETED"] == found.path[3:]


@pytest.mark.survives("F18")
def test_a_requeue_between_two_polls_waits_for_accountings_row() -> None:
    found = told(queue(10, RUNNING), queue(60, row(State.PENDING, submit=57)))
    assert (["PENDING>RUNNING"], State.RUNNING) == (found.path, found.eval.state)
    found.take(accounts(61, account(State.PREEMPTED, start=5, end=55), account(State.PENDING, submit=57)))
    assert ["PENDING>RUNNING", "RUNNING>PREEMPTED", "PREEMPTED>PENDING"] == found.path


@pytest.mark.survives("F18")
def test_an_earlier_attempt_that_accounting_lacks_was_requeued() -> None:
    again = account(State.PENDING, submit=57)
    found = told(queue(10, RUNNING), queue(60, row(State.PENDING, submit=57)), accounts(60, again))
    assert ["PENDING>RUNNING"] == found.path
    found.take(accounts(180, again))
    assert ["PENDING>RUNNING", "RUNNING>REQUEUED", "REQUEUED>PENDING"] == found.path


@pytest.mark.survives("F18")
def test_a_requeue_before_the_first_poll_is_asked_about_and_logged() -> None:
    found = told(queue(200, row(State.SUSPENDED, submit=57, start=180)))
    assert ["PENDING>RUNNING"] == found.path
    first = account(State.REQUEUED, start=5, end=55)
    found.take(accounts(201, first, account(State.RUNNING, submit=57, start=180)))
    assert ["RUNNING>REQUEUED", "REQUEUED>PENDING", "PENDING>RUNNING", "RUNNING>SUSPENDED"] == found.path[1:]


@pytest.mark.survives("F18")
def test_a_job_held_after_a_requeue_is_pending_and_not_final() -> None:
    first = account(State.REQUEUED, start=5, end=55)
    held = row(State.REQUEUED, submit=57, state_word="REQUEUE_HOLD")
    found = told(queue(10, RUNNING), queue(60, held), accounts(60, first, account(State.PENDING, submit=57)))
    assert ["PENDING>RUNNING", "RUNNING>REQUEUED", "REQUEUED>PENDING"] == found.path
    assert (State.PENDING, False) == (found.eval.state, found.eval.final)
    found.take(queue(300, row(State.RUNNING, submit=57, start=290)))
    assert "PENDING>RUNNING" == found.path[-1]


def test_a_running_attempt_that_squeue_calls_requeued_waits_for_accounting() -> None:
    found = told(queue(10, RUNNING), queue(60, row(State.REQUEUED, start=5)))
    assert ["PENDING>RUNNING"] == found.path
    found.take(accounts(60, account(State.REQUEUED, start=5, end=55)))
    assert (["PENDING>RUNNING", "RUNNING>REQUEUED"], False) == (found.path, found.eval.final)


def test_a_finished_job_that_is_requeued_is_active_again() -> None:
    done = account(State.FAILED, start=5, end=55)
    found = told(queue(60, row(State.FAILED, start=5, end=55)), accounts(60, done))
    assert found.eval.final
    found.take(queue(120, row(State.PENDING, submit=100)), accounts(120, done, account(State.PENDING, submit=100)))
    assert (["PENDING>RUNNING", "RUNNING>FAILED", "FAILED>PENDING"], False) == (found.path, found.eval.final)


def test_an_ended_job_that_squeue_still_shows_changes_nothing() -> None:
    ended = row(State.FAILED, start=5, end=55)
    found = told(queue(60, ended), accounts(60, account(State.FAILED, start=5, end=55)))
    before = msgspec.json.encode(found.state)
    assert [] == found.take(queue(120, ended), queue(180, ended))
    assert before == msgspec.json.encode(found.state)


def test_a_final_state_without_an_end_time_does_not_outweigh_squeue() -> None:
    half = account(State.FAILED, start=5, end=None, elapsed_s=55.0, whole=False)
    found = told(one_poll(queue(60, row(State.FAILED, start=5, end=9)), accounts(60, half)))
    assert ["PENDING>RUNNING", "RUNNING>FAILED"] == found.path
    [attempt] = found.attempts
    assert (T + 9, 4, None) == (attempt.ended_at, attempt.elapsed_s, attempt.accounted)
    assert (T + 9, "squeue") == (found.last.at, found.last.witness)
    found.take(accounts(62, account(State.FAILED, start=5, end=9, exit_code=3)))
    assert (3, 4) == (attempt.exit_code, attempt.elapsed_s)


def one_poll(asked: Facts, accounted: Facts) -> Facts:
    return replace(asked, accounts=accounted.accounts)


DONE = one_poll(
    queue(60, row(State.COMPLETED, start=5, end=55)), accounts(60, account(State.COMPLETED, start=5, end=55))
)
FORGOTTEN = account(State.REQUEUED, start=5, end=100)
ENDED_AGAIN = one_poll(
    queue(132, row(State.COMPLETED, submit=100, start=111, end=131)),
    accounts(132, FORGOTTEN, account(State.COMPLETED, submit=100, start=111, end=131)),
)
REQUEUED_AND_ENDED_AGAIN = [
    *("PENDING>RUNNING", "RUNNING>COMPLETED"),
    *("COMPLETED>REQUEUED", "REQUEUED>PENDING", "PENDING>RUNNING", "RUNNING>COMPLETED"),
]


def test_two_equal_ends_of_a_requeued_job_are_both_logged_though_accounting_forgets_the_first() -> None:
    found = told(DONE)
    found.take(one_poll(queue(130, row(State.RUNNING, submit=100, start=111)), accounts(130, FORGOTTEN)))
    found.take(ENDED_AGAIN)
    assert (REQUEUED_AND_ENDED_AGAIN, True) == (found.path, found.eval.final)


def test_the_second_end_is_logged_without_a_poll_in_between() -> None:
    assert REQUEUED_AND_ENDED_AGAIN == told(DONE, ENDED_AGAIN).path


def test_suspensions_are_logged_where_they_were_observed() -> None:
    suspended = row(State.SUSPENDED, start=5)
    found = told(
        queue(10, RUNNING), queue(20, suspended), queue(30, suspended), queue(40, RUNNING), queue(50, suspended)
    )
    assert ["PENDING>RUNNING", "RUNNING>SUSPENDED", "SUSPENDED>RUNNING", "RUNNING>SUSPENDED"] == found.path
    assert [T + 5, T + 20, T + 40, T + 50] == [event.step.at for event in found.events]


def test_a_job_first_observed_suspended_was_running_before() -> None:
    assert ["PENDING>RUNNING", "RUNNING>SUSPENDED"] == told(queue(20, row(State.SUSPENDED, start=5))).path


def test_contradicting_sources_give_one_correction_and_no_second_end() -> None:
    found = told(queue(10, RUNNING), queue(60, row(State.COMPLETED, start=5, end=55)))
    found.take(accounts(61, account(State.OUT_OF_MEMORY, start=5, end=55)))
    found.take(accounts(121, account(State.OUT_OF_MEMORY, start=5, end=55)))
    assert ["PENDING>RUNNING", "RUNNING>COMPLETED", "COMPLETED>OUT_OF_MEMORY"] == found.path


def test_a_retried_eval_continues_with_its_new_job() -> None:
    found = told(accounts(60, account(State.FAILED, start=5, end=55)))
    found.take(Facts(registrations=[registered(job_id="200", at=100, token="9c")]))
    assert ("200", State.PENDING, False) == (found.eval.job_id, found.eval.state, found.eval.final)
    found.take(queue(120, row(State.RUNNING, job_id="200", submit=101, start=110, command=launcher("9c"))))
    assert ["PENDING>RUNNING", "RUNNING>FAILED", "PENDING>RUNNING"] == found.path
    assert ["123", "200"] == sorted({entry.job_id for entry in found.eval.logged})


# An observer's clock is set, or another observer's clock differs.


@pytest.mark.survives("F9")
def test_a_clock_set_forward_by_a_day_makes_no_job_lost() -> None:
    day = 86_400
    found = told(queue(10, RUNNING), queue(60), accounts(60), queue(day), accounts(day))
    assert (["PENDING>RUNNING"], False) == (found.path, found.eval.final)


@pytest.mark.survives("F9")
def test_a_clock_set_back_by_an_hour_delays_nothing() -> None:
    hour = -3600
    found = told(queue(10, RUNNING), queue(60, row(State.SUSPENDED, start=5)))
    found.take(queue(hour, RUNNING), queue(hour + 60), accounts(hour + 60, account(State.COMPLETED, start=5, end=70)))
    assert ["SUSPENDED>RUNNING", "RUNNING>COMPLETED"] == found.path[2:]
    assert found.eval.final


@pytest.mark.survives("F9")
def test_a_clock_set_back_by_an_hour_delays_no_loss() -> None:
    found = told(queue(10, RUNNING), lost_after_s=300)
    found.take(*(facts for n in range(3) for facts in (queue(60 * n + 60), accounts(60 * n + 60))))
    found.take(*(facts for n in range(6) for facts in (queue(60 * n - 3600), accounts(60 * n - 3600))))
    assert "RUNNING>LOST" == found.path[-1]


@pytest.mark.survives("F9")
@pytest.mark.parametrize("skew", [-300.0, 300.0])
def test_an_observer_whose_clock_is_wrong_by_five_minutes_sees_the_same_path(skew: float) -> None:
    found = told(queue(10 + skew, row(State.PENDING)), queue(30, RUNNING), queue(90 + skew, RUNNING))
    found.take(queue(120), accounts(120, account(State.COMPLETED, start=5, end=100)))
    assert (["PENDING>RUNNING", "RUNNING>COMPLETED"], True) == (found.path, found.eval.final)


@pytest.mark.survives("F9")
def test_a_node_whose_clock_is_behind_gives_no_negative_duration() -> None:
    found = told(report(reported(start=-300, end=-250, exit_code=0)), queue(60, row(State.COMPLETED, start=5, end=55)))
    assert (["PENDING>RUNNING", "RUNNING>COMPLETED"], 50.0) == (found.path, found.attempts[0].elapsed_s)


@pytest.mark.survives("F18")
@pytest.mark.parametrize("word", ["REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"])
def test_a_job_held_after_a_requeue_and_released_runs_without_another_requeue(word: str) -> None:
    first = account(State.REQUEUED, start=5, end=55)
    held = row(State.REQUEUED, submit=57, state_word=word)
    found = told(queue(10, RUNNING), queue(60, held), accounts(60, first, account(State.PENDING, submit=57)))
    found.take(
        queue(120, row(State.RUNNING, submit=57, start=100)), queue(180, row(State.RUNNING, submit=57, start=100))
    )
    found.take(queue(900, row(State.COMPLETED, submit=57, start=100, end=890)))
    assert ["REQUEUED>PENDING", "PENDING>RUNNING", "RUNNING>COMPLETED"] == found.path[2:]
