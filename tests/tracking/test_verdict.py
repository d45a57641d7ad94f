"""The verdict for each combination of what Slurm, the job and its log say (contract, section 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.result import STATUSES, UNREADABLE, EvalLog, EvalResult
from evalmon_agent.tracking.facts import Facts
from evalmon_agent.tracking.records import Evidence, ExperimentState, JobReport, Witness
from evalmon_agent.tracking.results import EvalResults
from evalmon_agent.tracking.verdict import verdict, verdicts, witnesses_agree
from evalmon_agent.words.states import TERMINAL, State
from tracking.rows import Told, account, accounts, launcher, no_accounts, queue, registered, report, reported, row, told

DONE = EvalResult(status="success", samples_completed=4, samples_total=4)
BAD = EvalResult(status="error", samples_completed=2, samples_total=4)
PARTIAL = EvalResult(status="success", samples_completed=3, samples_total=4)

SUCCESS = EvalResults([DONE, DONE])
ERROR = EvalResults([DONE, BAD])
UNFINISHED = EvalResults([PARTIAL, DONE])
MISSING = EvalResults(missing=1)
ONE_MISSING = EvalResults([DONE], missing=1)
UNKNOWN = EvalResults(unknown="its log is at a URL")
PARTLY_UNKNOWN = EvalResults([DONE], unknown="its log is at a URL")
BAD_AND_UNKNOWN = EvalResults([BAD], unknown="its log is at a URL")
NONE = EvalResults()
ZERO, THREE, KILLED = {"exit_code": 0}, {"exit_code": 3}, {"signal": 9}


def ended(end: State, said: dict[str, int] | None) -> Told:
    reports: list[JobReport] = [] if said is None else [reported(start=6, end=50, **said)]
    return told(report(*reports), queue(60), accounts(60, account(end, start=5, end=55)))


FROM_OUTSIDE = sorted(TERMINAL - {State.COMPLETED, State.FAILED, State.OUT_OF_MEMORY, State.LOST})
BY_ITSELF = [State.FAILED, State.OUT_OF_MEMORY]


@pytest.mark.parametrize(
    ("ends", "said", "found", "expected"),
    [
        (FROM_OUTSIDE, KILLED, SUCCESS, "failed"),
        (FROM_OUTSIDE, ZERO, SUCCESS, "failed"),
        (FROM_OUTSIDE, None, NONE, "failed"),
        (FROM_OUTSIDE, None, UNKNOWN, "failed"),
        (BY_ITSELF, THREE, NONE, "failed"),
        (BY_ITSELF, THREE, ERROR, "failed"),
        (BY_ITSELF, ZERO, ERROR, "failed"),
        (BY_ITSELF, THREE, UNFINISHED, "failed"),
        (BY_ITSELF, THREE, MISSING, "failed"),
        (BY_ITSELF, THREE, ONE_MISSING, "failed"),
        (BY_ITSELF, THREE, UNKNOWN, "failed"),
        (BY_ITSELF, THREE, PARTLY_UNKNOWN, "failed"),
        (BY_ITSELF, THREE, SUCCESS, "suspect"),
        (BY_ITSELF, ZERO, SUCCESS, "suspect"),
        (BY_ITSELF, None, SUCCESS, "suspect"),
        ([State.COMPLETED], ZERO, ERROR, "suspect"),
        ([State.COMPLETED], None, UNFINISHED, "suspect"),
        ([State.COMPLETED], ZERO, MISSING, "suspect"),
        ([State.COMPLETED], ZERO, ONE_MISSING, "suspect"),
        ([State.COMPLETED], ZERO, BAD_AND_UNKNOWN, "suspect"),
        ([State.COMPLETED], THREE, SUCCESS, "suspect"),
        ([State.COMPLETED], KILLED, NONE, "suspect"),
        ([State.COMPLETED], THREE, UNKNOWN, "suspect"),
        ([State.COMPLETED], ZERO, UNKNOWN, "unverified"),
        ([State.COMPLETED], ZERO, PARTLY_UNKNOWN, "unverified"),
        ([State.COMPLETED], None, UNKNOWN, "unverified"),
        ([State.COMPLETED], ZERO, SUCCESS, "ok"),
        ([State.COMPLETED], None, SUCCESS, "ok"),
        ([State.COMPLETED], ZERO, NONE, "ok"),
        ([State.COMPLETED], None, NONE, "ok"),
    ],
)
def test_the_verdict(ends: list[State], said: dict[str, int] | None, found: EvalResults, expected: str) -> None:
    assert dict.fromkeys(ends, expected) == {end: verdict(ended(end, said).eval, found) for end in ends}


@pytest.mark.parametrize("found", [SUCCESS, NONE, UNKNOWN])
def test_an_output_that_ends_in_an_error_that_nobody_handled_makes_completed_suspect(found: EvalResults) -> None:
    ev = ended(State.COMPLETED, ZERO).eval
    assert ev.latest is not None
    ev.latest.evidence = Evidence(ends_in_error=True)
    assert "suspect" == verdict(ev, found)


RESULTS = st.builds(
    EvalResult,
    status=st.sampled_from([*STATUSES, UNREADABLE]),
    samples_completed=st.none() | st.integers(0, 4),
    samples_total=st.none() | st.just(4),
    known_by=st.sampled_from(["process", "output", "place"]),
)
FOUND = st.builds(
    EvalResults, results=st.lists(RESULTS, max_size=3), missing=st.integers(0, 2), unknown=st.none() | st.just("why")
)


@given(st.sampled_from(sorted(TERMINAL - {State.LOST})), st.sampled_from([None, ZERO, THREE, KILLED]), FOUND)
def test_no_ok_without_proof_and_no_suspect_without_a_contradiction(
    end: State, said: dict[str, int] | None, found: EvalResults
) -> None:
    outcome = verdict(ended(end, said).eval, found)
    is_good = not found.missing and all(result.succeeded for result in found.results)
    ended_well = end is State.COMPLETED and said in (None, ZERO)
    assert (outcome == "ok") == (ended_well and is_good and found.unknown is None)
    assert (outcome == "unverified") == (ended_well and is_good and found.unknown is not None)
    if outcome == "suspect":
        assert end in {State.COMPLETED, *BY_ITSELF}
        assert not is_good or not ended_well


@given(
    st.sampled_from(sorted(TERMINAL - {State.LOST})),
    st.booleans(),
    st.sampled_from(["success", "error", "started"]) | st.none(),
    st.none() | st.just(Witness("cgroup")),
)
def test_a_scripts_text_alone_makes_nothing_suspect(
    end: State, names_framework: bool, status: str | None, witness: Witness | None
) -> None:
    ev = ended(end, ZERO).eval
    attempt = ev.latest
    assert attempt is not None
    assert attempt.report is not None
    attempt.report.witness = witness
    started_at = attempt.report.started_at or 0.0
    logs = [EvalLog(path="/a.eval", changed_at=started_at, status=status)] if status else []
    verdicts_by_text = []
    for by_text in (False, names_framework):
        attempt.evidence = Evidence(logs=logs, printed=[log.path for log in logs], names_framework=by_text)
        verdicts_by_text.append(verdicts(ExperimentState("/exp", evals={ev.name: ev}))[ev.name])
    without, with_text = verdicts_by_text
    assert with_text == without or (without, with_text) == ("ok", "unverified")
    if with_text == "ok" and names_framework:
        assert logs or witness


@pytest.mark.parametrize("end", sorted(TERMINAL - {State.COMPLETED, State.LOST}))
def test_whatever_slurm_does_not_call_completed_failed(end: State) -> None:
    assert "failed" == verdict(ended(end, None).eval, NONE)


def test_a_lost_job_is_not_ok() -> None:
    found = told(queue(10), accounts(10), queue(60), accounts(60), lost_after_s=30)
    assert ("LOST", "failed") == (found.eval.state, verdict(found.eval, SUCCESS))


def test_an_eval_that_is_not_over_is_active() -> None:
    assert "active" == verdict(told(queue(10, row(State.RUNNING, start=5))).eval, SUCCESS)
    node_failed = told(accounts(60, account(State.NODE_FAIL, start=5, end=55)))
    assert "active" == verdict(node_failed.eval, NONE)


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
    assert ("ok", None) == (verdict(found.eval, NONE), witnesses_agree(found.eval))


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
    assert verdict(found.eval, NONE) in verdicts
    assert (verdict(found.eval, NONE) == "ok") == (end is State.COMPLETED and expected is not False)


def test_where_only_the_job_itself_tells_there_is_nobody_to_agree_with() -> None:
    found = told(queue(20, row(State.RUNNING, start=5)), report(reported(start=6, end=50, exit_code=0)))
    found.take(queue(60), no_accounts(60))
    assert (State.COMPLETED, None) == (found.eval.state, witnesses_agree(found.eval))
