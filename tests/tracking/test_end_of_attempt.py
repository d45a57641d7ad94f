"""What an attempt's records say of its end, for the question why it failed."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.records import Attempt
from evalmon_agent.tracking.verdict import end_of_attempt, was_not_started
from evalmon_agent.words.states import State
from tracking.rows import account, accounts, queue, reported, told

ENDED = {"start": 5, "end": 55}


def test_who_cancelled_it_is_kept_from_accounting() -> None:
    [attempt] = told(accounts(60, account(State.CANCELLED, state_word="CANCELLED by 1001", **ENDED))).attempts
    assert (attempt.cancelled_by, end_of_attempt(attempt).cancelled_by) == (1001, "user 1001")
    [attempt] = told(accounts(60, account(State.CANCELLED, state_word="CANCELLED by 0", **ENDED))).attempts
    assert str(end_of_attempt(attempt).cancelled_by).startswith("root")
    [attempt] = told(accounts(60, account(State.CANCELLED, state_word="CANCELLED", **ENDED))).attempts
    assert end_of_attempt(attempt).cancelled_by is None


def test_the_jobs_own_report_tells_how_the_command_ended() -> None:
    [attempt] = told(queue(10), accounts(60, account(State.FAILED, exit_code=9, **ENDED))).attempts
    assert end_of_attempt(attempt).exit_code == 9
    attempt.report = reported(start=6, end=50, exit_code=137)
    assert end_of_attempt(attempt).exit_code == 137


@pytest.mark.parametrize("state", [State.TIMEOUT, State.OUT_OF_MEMORY, State.CANCELLED])
def test_zero_is_no_exit_status_where_slurm_ended_it(state: State) -> None:
    [attempt] = told(accounts(60, account(state, **ENDED))).attempts
    assert (end_of_attempt(attempt).exit_code, end_of_attempt(attempt).signal) == (None, None)


def test_a_state_that_is_only_ours_can_be_given() -> None:
    assert end_of_attempt(Attempt(), state=State.LOST).state is State.LOST
    assert end_of_attempt(Attempt()).state is None


def test_a_job_that_slurm_could_not_start_has_its_error_number_as_a_signal_and_no_report() -> None:
    [attempt] = told(accounts(60, account(State.FAILED, signal=53, **ENDED))).attempts
    assert was_not_started(attempt)
    attempt.report = reported(start=6, end=50, signal=53)
    assert not was_not_started(attempt)
    [attempt] = told(accounts(60, account(State.FAILED, signal=9, **ENDED))).attempts
    assert not was_not_started(attempt)
