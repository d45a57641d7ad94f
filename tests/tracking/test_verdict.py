"""The verdict for each combination of what Slurm, the job and its log say (contract, section 8)."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.facts import Facts
from evalmon_agent.tracking.records import JobReport
from evalmon_agent.tracking.verdict import LogSays, verdict, witnesses_agree
from evalmon_agent.words.states import TERMINAL, State
from tracking.rows import Told, account, accounts, launcher, no_accounts, queue, registered, report, reported, row, told

SUCCESS = LogSays(expected=True, success=True)
ERROR = LogSays(expected=True, success=False)
MISSING = LogSays(expected=True, success=None)
NO_LOG = LogSays(expected=False, success=None)
UNEXPECTED_ERROR = LogSays(expected=False, success=False)
ZERO, THREE, KILLED = {"exit_code": 0}, {"exit_code": 3}, {"signal": 9}


def ended(end: State, said: dict[str, int] | None) -> Told:
    reports: list[JobReport] = [] if said is None else [reported(start=6, end=50, **said)]
    return told(report(*reports), queue(60), accounts(60, account(end, start=5, end=55)))


@pytest.mark.parametrize(
    ("end", "said", "log", "expected"),
    [
        (State.COMPLETED, ZERO, SUCCESS, "ok"),
        (State.COMPLETED, None, SUCCESS, "ok"),
        (State.COMPLETED, ZERO, NO_LOG, "ok"),
        (State.COMPLETED, ZERO, None, "ok"),
        (State.COMPLETED, ZERO, ERROR, "suspect"),
        (State.COMPLETED, ZERO, MISSING, "suspect"),
        (State.COMPLETED, None, MISSING, "suspect"),
        (State.COMPLETED, ZERO, UNEXPECTED_ERROR, "suspect"),
        (State.COMPLETED, THREE, SUCCESS, "suspect"),
        (State.COMPLETED, KILLED, NO_LOG, "suspect"),
        (State.FAILED, THREE, ERROR, "failed"),
        (State.FAILED, THREE, SUCCESS, "failed"),
        (State.FAILED, ZERO, NO_LOG, "failed"),
        (State.FAILED, ZERO, SUCCESS, "suspect"),
        (State.OUT_OF_MEMORY, ZERO, SUCCESS, "suspect"),
        (State.OUT_OF_MEMORY, ZERO, ERROR, "failed"),
        (State.OUT_OF_MEMORY, None, SUCCESS, "failed"),
        (State.TIMEOUT, KILLED, MISSING, "failed"),
        (State.TIMEOUT, None, None, "failed"),
    ],
)
def test_the_verdict(end: State, said: dict[str, int] | None, log: LogSays | None, expected: str) -> None:
    assert expected == verdict(ended(end, said).eval, log)


@pytest.mark.parametrize("end", sorted(TERMINAL - {State.COMPLETED, State.LOST}))
def test_whatever_slurm_does_not_call_completed_failed(end: State) -> None:
    assert "failed" == verdict(ended(end, None).eval, None)


def test_a_lost_job_is_not_ok() -> None:
    found = told(queue(10), accounts(10), queue(60), accounts(60), lost_after_s=30)
    assert ("LOST", "failed") == (found.eval.state, verdict(found.eval, SUCCESS))


def test_an_eval_that_is_not_over_is_active() -> None:
    assert "active" == verdict(told(queue(10, row(State.RUNNING, start=5))).eval, SUCCESS)
    node_failed = told(accounts(60, account(State.NODE_FAIL, start=5, end=55)))
    assert "active" == verdict(node_failed.eval, None)


@pytest.mark.parametrize(
    ("end", "said", "expected"),
    [
        (State.COMPLETED, ZERO, True),
        (State.COMPLETED, THREE, False),
        (State.COMPLETED, KILLED, False),
        (State.COMPLETED, None, None),
        (State.FAILED, THREE, True),
        (State.TIMEOUT, KILLED, True),
        (State.OUT_OF_MEMORY, ZERO, False),
    ],
)
def test_whether_the_witnesses_agree(end: State, said: dict[str, int] | None, expected: bool | None) -> None:
    assert expected == witnesses_agree(ended(end, said).eval)


def test_witnesses_of_an_active_job_neither_agree_nor_disagree() -> None:
    found = told(report(reported(start=6, end=50, exit_code=0)), queue(60, row(State.RUNNING, start=5)))
    assert None is witnesses_agree(found.eval)


def test_only_the_report_of_the_latest_attempt_of_the_latest_job_counts() -> None:
    found = ended(State.FAILED, THREE)
    found.take(Facts(registrations=[registered(job_id="200", at=100, token="9c")]))
    done = row(State.COMPLETED, job_id="200", submit=101, start=110, end=150, command=launcher("9c"))
    found.take(queue(160, done))
    assert ("ok", None) == (verdict(found.eval, None), witnesses_agree(found.eval))


SAID = [None, {}, ZERO, THREE, KILLED, {"exit_code": 137}, {"exit_code": 0, "whole_job": False}]


@pytest.mark.survives("F27")
@pytest.mark.parametrize("said", SAID, ids=str)
@pytest.mark.parametrize("end", sorted(TERMINAL - {State.LOST}))
def test_every_pair_of_witnesses(end: State, said: dict[str, int] | None) -> None:
    """They agree if both tell success, or both tell none; where the report tells no end, nobody can say."""
    found = told(queue(60), accounts(60, account(end, start=5, end=55)))
    if said is not None:
        found = told(report(reported(start=6, end=50 if said else None, **said)), queue(60))
        found.take(accounts(60, account(end, start=5, end=55)))
    succeeded = {str(ZERO): True, str(THREE): False, str(KILLED): False, str({"exit_code": 137}): False}.get(str(said))
    expected = None if succeeded is None else succeeded == (end is State.COMPLETED)
    assert expected == witnesses_agree(found.eval)
    assert (end, True) == (found.eval.state, found.eval.final)
    verdicts = {True: {"ok", "failed"}, False: {"suspect", "failed"}, None: {"ok", "failed"}}[expected]
    assert verdict(found.eval, None) in verdicts
    assert (verdict(found.eval, None) == "ok") == (end is State.COMPLETED and expected is not False)


def test_where_only_the_job_itself_tells_there_is_nobody_to_agree_with() -> None:
    found = told(queue(20, row(State.RUNNING, start=5)), report(reported(start=6, end=50, exit_code=0)))
    found.take(queue(60), no_accounts(60))
    assert (State.COMPLETED, None) == (found.eval.state, witnesses_agree(found.eval))
