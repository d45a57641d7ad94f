"""Tests what an attempt's records give for the diagnosis of its failure."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.records import Attempt
from evalmon_agent.tracking.verdict import end_of_attempt, was_not_started
from evalmon_agent.words.states import State
from tracking.rows import account, accounts, queue, reported, told

ENDED = {"start": 5, "end": 55}


def test_the_user_who_cancelled_is_taken_from_accounting() -> None:
    [attempt] = told(accounts(60, account(State.CANCELLED, state_word="CANCELLED by 1001", **ENDED))).attempts
    assert (attempt.cancelled_by, end_of_attempt(attempt).cancelled_by) == (1001, "user 1001")
    [attempt] = told(accounts(60, account(State.CANCELLED, state_word="CANCELLED by 0", **ENDED))).attempts
    assert str(end_of_attempt(attempt).cancelled_by).startswith("root")
    [attempt] = told(accounts(60, account(State.CANCELLED, state_word="CANCELLED", **ENDED))).attempts
    assert end_of_attempt(attempt).cancelled_by is None


def test_the_commands_exit_status_is_taken_from_the_report() -> None:
    [attempt] = told(queue(10), accounts(60, account(State.FAILED, exit_code=9, **ENDED))).attempts
    assert end_of_attempt(attempt).exit_code == 9
    attempt.report = reported(start=6, end=50, exit_code=137)
    assert end_of_attempt(attempt).exit_code == 137


@pytest.mark.parametrize("state", [State.TIMEOUT, State.OUT_OF_MEMORY, State.CANCELLED])
def test_exit_status_zero_is_dropped_where_slurm_ended_the_job(state: State) -> None:
    [attempt] = told(accounts(60, account(state, **ENDED))).attempts
    assert (end_of_attempt(attempt).exit_code, end_of_attempt(attempt).signal) == (None, None)


def test_a_state_of_evalmons_own_is_accepted() -> None:
    assert end_of_attempt(Attempt(), state=State.LOST).state is State.LOST
    assert end_of_attempt(Attempt()).state is None


def test_the_signal_of_a_job_that_slurm_could_not_start_is_an_error_number() -> None:
    [attempt] = told(accounts(60, account(State.FAILED, signal=53, **ENDED))).attempts
    assert was_not_started(attempt)
    attempt.report = reported(start=6, end=50, signal=53)
    assert not was_not_started(attempt)
    [attempt] = told(accounts(60, account(State.FAILED, signal=9, **ENDED))).attempts
    assert not was_not_started(attempt)
