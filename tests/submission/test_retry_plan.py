"""Tests which evals are retried: none that succeeded, none whose end is unknown, and none too often."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evalmon_agent.evidence.result import UNREADABLE, EvalResult
from evalmon_agent.submission.plan import read_script
from evalmon_agent.submission.retry_plan import (
    Retry,
    RetryRequest,
    RetryScript,
    certain_to_fail,
    decide,
    description,
)
from evalmon_agent.tracking.records import Attempt, Eval, Job, JobReport
from evalmon_agent.tracking.registry import Adopted, Entries, Intent, Submission
from evalmon_agent.tracking.verdict import EvalResults
from evalmon_agent.words.states import State

NAME = "r1/t/epoch0"
SCRIPT = "/exp/r1/eval/t_epoch0.slurm"
[ENTRY] = list(Entries([Intent(Submission(NAME, SCRIPT, token="t1"), 1.0, "login1", 1)]))
SUCCESS = EvalResult(status="success", samples_completed=4, samples_total=4, log="/l.eval", known_by="place")
ERROR = EvalResult(status="error", samples_completed=2, samples_total=4, log="/l.eval", known_by="output")


def ended(state: State, *, exit_code: int | None = None, jobs: int = 1) -> Eval:
    reported = None if exit_code is None else JobReport(0, exit_code=exit_code)
    submissions = [
        Job(str(number), float(number), f"t{jobs + 1 - number}", attempts=[Attempt(number)])
        for number in range(1, jobs + 1)
    ]
    submissions[-1].attempts[0].report = reported
    return Eval(NAME, str(jobs), state, final=True, jobs=submissions)


def decided(ev: Eval, *results: EvalResult, missing: int = 0, unknown: str | None = None, **asked: Any) -> Retry | str:
    found = EvalResults(results, missing, unknown)
    entry, waits = asked.pop("entry", ENTRY), asked.pop("waits", False)
    return decide(ev, entry, found, RetryRequest(**asked), is_waiting=waits)


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        (State.FAILED, "unknown"),
        (State.NODE_FAIL, "node-failure"),
        (State.PREEMPTED, "preempted"),
        (State.BOOT_FAIL, "node-failure"),
        (State.CANCELLED, "cancelled"),
        (State.DEADLINE, "deadline"),
    ],
)
def test_a_failed_eval_is_retried_unchanged(state: State, cause: str) -> None:
    assert Retry(str(state), cause) == decided(ended(state))


def test_an_eval_that_ran_out_of_time_or_memory_is_retried() -> None:
    assert Retry("TIMEOUT", "time-limit") == decided(ended(State.TIMEOUT))
    assert Retry("OUT_OF_MEMORY", "unknown") == decided(ended(State.OUT_OF_MEMORY, exit_code=137))


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [(State.OUT_OF_MEMORY, 0), (State.FAILED, 1), (State.FAILED, None), (State.COMPLETED, 143)],
)
def test_an_eval_with_complete_results_is_retried_only_if_named(state: State, exit_code: int | None) -> None:
    harmed = ended(state, exit_code=exit_code)
    why = decided(harmed, SUCCESS, SUCCESS)
    assert f"its log says success with all samples; it is {state}, and suspect" in str(why)
    assert "name it to run it again" in str(why)
    assert isinstance(decided(harmed, SUCCESS, names=[NAME]), Retry)
    assert isinstance(decided(harmed, SUCCESS, ERROR), Retry)
    assert isinstance(decided(harmed, SUCCESS, missing=1), Retry)


def test_a_completed_eval_with_an_error_in_its_log_is_retried_from_that_log() -> None:
    lied = ended(State.COMPLETED, exit_code=0)
    assert Retry("its log says error, 2 of 4 samples", "eval-error", log="/l.eval") == decided(lied, ERROR)
    assert "it is suspect, not failed" == decided(lied, ERROR, failed_only=True)


def test_a_completed_eval_that_may_have_succeeded_is_retried_only_if_named() -> None:
    quiet = ended(State.COMPLETED, exit_code=0)
    why = "it COMPLETED, and its result is unknown: its log is at a URL; name it to run it again anyway"
    assert why == decided(quiet, unknown="its log is at a URL")
    assert Retry("its result is unknown: its log is at a URL") == decided(
        quiet, unknown="its log is at a URL", names=[NAME]
    )
    damaged = EvalResult(status=UNREADABLE)
    assert "its log cannot be read; name it" in str(decided(quiet, damaged))
    assert isinstance(decided(quiet, damaged, names=[NAME]), Retry)


def test_a_program_without_a_log_is_retried() -> None:
    left_none = Retry("a program began an eval and left no log", "no-eval-log")
    assert left_none == decided(ended(State.COMPLETED, exit_code=0), missing=1)


def test_a_retry_continues_only_from_the_one_log_that_is_proven_to_be_its_own() -> None:
    failed = ended(State.FAILED, exit_code=1)
    assert Retry("FAILED", "unknown", log="/l.eval") == decided(failed, ERROR)
    guessed = msgspec.structs.replace(ERROR, known_by=None)
    assert Retry("FAILED", "unknown") == decided(failed, guessed)
    assert Retry("FAILED", "unknown") == decided(failed, ERROR, ERROR)
    assert Retry("FAILED", "unknown") == decided(failed, ERROR, missing=1)


def test_a_successful_or_active_eval_is_never_retried() -> None:
    assert "" == decided(ended(State.COMPLETED, exit_code=0), SUCCESS)
    named = decided(ended(State.COMPLETED, exit_code=0), SUCCESS, names=[NAME])
    assert "it succeeded; --force runs it again" == named
    running = Eval(NAME, "1", State.RUNNING, jobs=[Job("1", 1.0)])
    assert ("", "it is still RUNNING") == (decided(running), decided(running, names=[NAME]))
    assert "it is already waiting to be submitted" == decided(ended(State.FAILED), waits=True)


def test_an_eval_whose_end_is_unknown_may_still_be_running() -> None:
    assert "name it to run it again anyway" in str(decided(ended(State.LOST)))
    assert isinstance(decided(ended(State.LOST), names=[NAME]), Retry)


def test_a_job_that_evalmon_did_not_submit_is_not_retried() -> None:
    assert "evalmon did not submit it" in str(decided(ended(State.FAILED), entry=None, names=[NAME]))


def test_an_adopted_job_is_not_retried() -> None:
    [adopted] = list(Entries([Adopted(Submission(NAME), "1", 2.0, 1.0)]))
    taken_up = Eval(NAME, "1", State.FAILED, jobs=[Job("1", 1.0)], final=True)
    assert "evalmon did not submit it" in str(decided(taken_up, entry=adopted, names=[NAME]))


def test_an_eval_submitted_again_since_its_end_was_checked_is_left_alone() -> None:
    [meanwhile] = list(Entries([Intent(Submission(NAME, SCRIPT, token="t2"), 2.0, "login2", 1)]))
    assert "somebody else" in str(decided(ended(State.FAILED), entry=meanwhile, names=[NAME]))


def test_the_maximum_number_of_retries_holds_for_every_caller() -> None:
    tried = ended(State.FAILED, jobs=3)
    why = "it had 3 attempts already; --max-retries 3 or --force allows more"
    assert (why, why) == (decided(tried), decided(tried, names=[NAME]))
    assert isinstance(decided(tried, max_retries=3), Retry)
    once = decided(ended(State.FAILED), max_retries=0)
    assert "it had 1 attempt already; --max-retries 1 or --force allows more" == once


def test_the_attempts_number_and_the_reason_are_given() -> None:
    again = decided(ended(State.TIMEOUT, jobs=2))
    assert isinstance(again, Retry)
    assert "TIMEOUT: time-limit, attempt 3 of 3" == description(again, RetryRequest())
    forced = decided(ended(State.FAILED, jobs=3), force=True)
    assert isinstance(forced, Retry)
    assert "FAILED: cause unknown, attempt 4" == description(forced, RetryRequest(force=True))


def test_force_retries_successful_evals_from_the_start_and_hopeless_ones() -> None:
    fine = ended(State.COMPLETED, exit_code=0)
    assert Retry("COMPLETED") == decided(fine, SUCCESS, force=True)
    assert isinstance(decided(ended(State.OUT_OF_MEMORY, exit_code=0), SUCCESS, force=True), Retry)
    assert isinstance(decided(fine, unknown="its log is at a URL", force=True), Retry)
    assert isinstance(decided(ended(State.LOST), force=True), Retry)
    assert "it is suspect, not failed" == decided(fine, ERROR, force=True, failed_only=True)


def test_force_retries_nothing_twice_and_no_adopted_job() -> None:
    running = Eval(NAME, "1", State.RUNNING, jobs=[Job("1", 1.0)])
    assert "" == decided(running, force=True)
    assert "it is already waiting to be submitted" == decided(ended(State.FAILED), waits=True, force=True)
    assert "evalmon did not submit it" in str(decided(ended(State.FAILED), entry=None, force=True))


def test_only_evals_with_a_selected_cause_are_retried() -> None:
    slow, fine = ended(State.TIMEOUT), ended(State.COMPLETED, exit_code=0)
    assert isinstance(decided(slow, causes=["cancelled", "time-limit"]), Retry)
    assert ("", "") == (decided(slow, causes=["cancelled"]), decided(fine, SUCCESS, causes=["cancelled"], force=True))
    assert "its cause is time-limit" == decided(slow, causes=["cancelled"], names=[NAME])
    assert "its cause is none" == decided(fine, SUCCESS, causes=["cancelled"], names=[NAME])
    assert isinstance(decided(ended(State.FAILED), causes=["unknown"]), Retry)


def test_an_eval_certain_to_fail_again_needs_force_or_a_changed_script() -> None:
    again = Retry("FAILED", "missing-module")
    fix = "FAILED: missing-module returns until somebody fixes it"
    command = "once it is fixed, add --cause missing-module --force"
    plain, changed, forced = RetryRequest(), RetryRequest(changed=True), RetryRequest(force=True)
    said = certain_to_fail(again, plain, is_script_changed=False)
    assert f"{fix}; {command} (or --changed, if the fix is in the script)" == said
    said = certain_to_fail(again, changed, is_script_changed=False)
    assert f"{fix}, and its script has not changed; {command}" == said
    assert "" == certain_to_fail(again, changed, is_script_changed=True)
    assert "" == certain_to_fail(again, forced, is_script_changed=False)


@pytest.mark.parametrize(
    "cause", ["time-limit", "node-failure", "unknown", "cuda-out-of-memory", "checkpoint-damaged", "of a later version"]
)
def test_an_eval_that_another_node_or_limit_may_help_needs_no_force(cause: str) -> None:
    assert "" == certain_to_fail(Retry("FAILED", cause), RetryRequest(), is_script_changed=False)


def test_a_log_without_a_finished_sample_is_not_continued() -> None:
    empty = EvalResult(status="started", samples_completed=0, log="/l.eval")
    assert Retry("FAILED", "eval-unfinished") == decided(ended(State.FAILED), empty)
    again = Retry("FAILED", log="/l.eval")
    resuming = RetryScript(read_script("/s", b"#!/bin/sh\n... $EVALMON_RETRY_LOG ..."))
    assert ("/l.eval", None) == (resuming.log_for(again), resuming.log_for(Retry("FAILED")))
    assert RetryScript(read_script("/s", b"#!/bin/sh\ninspect eval tasks.py\n")).log_for(again) is None


def test_only_evals_named_themselves_are_retried_against_advice() -> None:
    assert (True, True) == (RetryRequest().means("a"), RetryRequest(["*"], chosen={"a"}).means("a"))
    assert not RetryRequest(["*"], chosen={"a"}).means("b")
    assert (False, True) == (RetryRequest(["r1/*"]).insists("r1/a[0]"), RetryRequest(["r1/a[0]"]).insists("r1/a[0]"))
