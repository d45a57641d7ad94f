"""Tests the verdict for each combination of Slurm, job and log (contract, section 8)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmon_agent.evidence.kinds.kind import ObservedProgram, Written
from evalmon_agent.evidence.result import STATUSES, UNREADABLE, EvalLog, EvalResult
from evalmon_agent.evidence.result import SUCCESS as SUCCESS_STATUS
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState, Job, JobReport, Witness
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.tracking.verdict import EvalResults, settle, verdict, verdicts, witnesses_agree
from evalmon_agent.words.states import TERMINAL, State
from tracking.rows import (
    T,
    Told,
    account,
    accounts,
    launcher,
    no_accounts,
    queue,
    registered,
    report,
    reported,
    row,
    told,
)

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
def test_the_verdict_follows_from_state_report_and_logs(
    ends: list[State], said: dict[str, int] | None, found: EvalResults, expected: str
) -> None:
    assert dict.fromkeys(ends, expected) == {end: verdict(ended(end, said).eval, found) for end in ends}


@pytest.mark.parametrize("found", [SUCCESS, NONE, UNKNOWN])
def test_an_output_that_ends_in_an_unhandled_error_makes_completed_suspect(found: EvalResults) -> None:
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
def test_a_scripts_text_alone_makes_no_eval_suspect(
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


PLACES = ("/w1", "/w2")
DURING, LATER = (datetime.fromtimestamp(T + at, tz=UTC) for at in (20, 5000))
LOGS = st.builds(
    EvalLog,
    path=st.builds("{}/logs/{}.eval".format, st.sampled_from(PLACES), st.sampled_from("ab")),
    kind=st.just("inspect-ai"),
    changed_at=st.just(T + 40),
    created=st.sampled_from([*[DURING] * 4, LATER]),
    status=st.sampled_from([*[SUCCESS_STATUS] * 4, *STATUSES, UNREADABLE]),
    samples_completed=st.sampled_from([4, 4, 4, 3, None]),
    samples_total=st.just(4),
)
WROTE = st.builds(
    lambda place, name, known_by, is_known: Written(
        name=f"{name}.eval", path=f"{place}/logs/{name}.eval" if is_known else None, known_by=(known_by,)
    ),
    st.sampled_from(PLACES),
    st.sampled_from("ab"),
    st.sampled_from(["line", "name"]),
    st.sampled_from([*[True] * 5, False]),
)
PROGRAMS = st.builds(
    ObservedProgram,
    kind=st.just("inspect-ai"),
    started_at=st.just(T + 10),
    ended_at=st.sampled_from([None, T + 45]),
    verb=st.just("eval"),
    words=st.just(("t.py",)),
    options=st.sampled_from([*[{}] * 4, None, {"log-dir": ("s3://b",)}]),
    cwd=st.sampled_from([*PLACES * 3, None]),
    wrote=st.sampled_from([0, 0, 1, 1, 2])
    .flatmap(lambda size: st.lists(WROTE, min_size=size, max_size=size))
    .map(tuple),
    is_cut=st.sampled_from([False, False, False, True]),
    is_in_pid_namespace=st.sampled_from([False, False, False, True]),
)
WITNESSES = st.builds(
    Witness,
    by=st.sampled_from(["cgroup", "cgroup", "environment"]),
    left_out=st.sampled_from([0, 0, 0, 2]),
    nodes_unseen=st.sampled_from([0, 1]),
)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """The observations of a job that ended."""
    end = draw(st.sampled_from([*[State.COMPLETED] * 4, State.FAILED, State.TIMEOUT]))
    witness = draw(st.sampled_from([*[WITNESSES] * 5, st.none()]).flatmap(lambda strategy: strategy))
    job_report = JobReport(
        0,
        started_at=T,
        ended_at=T + 60,
        exit_code=draw(st.sampled_from([0, 0, 0, 0, 3])),
        eval_programs=draw(st.lists(PROGRAMS, max_size=2)) if witness is not None else [],
        witness=witness,
    )
    logs = draw(st.lists(LOGS, min_size=draw(st.sampled_from([0, 2])), max_size=4, unique_by=lambda log: log.path))
    evidence = Evidence(
        logs=logs,
        printed=[log.path for log in logs if draw(st.sampled_from([False, False, True]))],
        names_framework=draw(st.booleans()),
        ends_in_error=draw(st.sampled_from([False, False, False, False, True])),
        not_all_read=draw(st.sampled_from([None, None, None, "no time left"])),
    )
    ended_at = T + 60
    return Attempt(
        ran=True,
        account_state=end,
        started_at=T,
        ended_at=ended_at,
        report=draw(st.sampled_from([*[job_report] * 5, None])),
        evidence=draw(st.sampled_from([*[evidence] * 5, None])),
    )


def is_proven(log: str, by: str | None, own: Attempt, others: list[Attempt]) -> bool:
    """Whether the attempt's observations are proof, and no other attempt has equal or stronger ones."""

    def proofs_of(attempt: Attempt) -> list[str]:
        programs = attempt.report.eval_programs if attempt.report is not None else []
        wrote = [written for program in programs for written in program.wrote if written.path == log]
        # An attempt that named all its logs wrote no other.
        unnamed = [program for program in programs if program.is_cut or not any(w.path for w in program.wrote)]
        near = [program for program in unnamed if program.options == {} and f"{program.cwd}/logs" in log]
        printed = attempt.evidence is not None and log in attempt.evidence.printed
        return ["process"] * bool(wrote) + ["output"] * printed + ["place"] * bool(near)

    rivals = [proof for other in others for proof in proofs_of(other)]
    return by in proofs_of(own) and (by == "process" or by not in rivals)


@settings(max_examples=600)
@given(st.lists(attempts(), min_size=1, max_size=3))
def test_ok_needs_proof_and_suspect_needs_a_contradiction_whatever_is_observed(
    observed: list[Attempt],
) -> None:
    evals = {
        name: Eval(
            name, name, state=attempt.account_state or State.LOST, final=True, jobs=[Job(name, T, attempts=[attempt])]
        )
        for name, attempt in zip("123", observed, strict=False)
    }
    state = ExperimentState("/exp", evals=evals)
    results, outcome = settle(state), verdicts(state)
    shown = [result.log for found in results.values() for result in found.results]
    assert len(shown) == len(set(shown))
    for name, ev in evals.items():
        attempt, found = ev.jobs[0].attempts[0], results[name]
        others = [other for other in observed if other is not attempt]
        assert all(is_proven(result.log or "", result.known_by, attempt, others) for result in found.results)
        assert {result.created for result in found.results} <= {DURING.isoformat()}
        if outcome[name] == "ok":
            logs = [log for each in observed if each.evidence for log in each.evidence.logs]
            check_ok(attempt, found, {log.path for log in logs}, not_its_own(others, logs))
        if outcome[name] == "suspect":
            check_suspect(attempt, found)


def not_its_own(others: list[Attempt], logs: list[EvalLog]) -> set[str]:
    """Logs that other attempts had open themselves, or that are from another time."""
    programs = [program for other in others if other.report is not None for program in other.report.eval_programs]
    held = {written.path for program in programs for written in program.wrote if written.is_certain and written.path}
    return held | {log.path for log in logs if log.created != DURING}


def check_ok(attempt: Attempt, found: EvalResults, read: set[str], foreign: set[str]) -> None:
    """Everything was read, every witness looked, and each program has a successful result."""
    assert attempt.account_state is State.COMPLETED
    assert attempt.evidence is not None
    assert not attempt.evidence.ends_in_error
    programs, witness = [], None
    if attempt.report is not None:
        programs, witness = attempt.report.eval_programs, attempt.report.witness
        assert attempt.report.exit_code == 0
    assert all(result.succeeded for result in found.results)
    for number, program in enumerate(programs):
        others = [other for place, other in enumerate(programs) if place != number]
        assert any(may_be_its_own(result.log or "", program, others) for result in found.results)
        shown = {result.log for result in found.results}
        lost = [written for written in program.wrote if written.path and written.path not in shown]
        # In a pid namespace a line may be of another process with the same pid.
        assert all(program.is_in_pid_namespace and not written.is_certain for written in lost)
        assert {written.path for written in lost} <= foreign
    if attempt.evidence.not_all_read is not None:
        paths = {written.path for program in programs for written in program.wrote if written.path}
        assert paths <= read
        assert not any(program.is_cut for program in programs)
        assert witness is not None
        assert witness.by == "cgroup"
    if not found.results and attempt.evidence.names_framework:
        assert witness is not None
        assert (witness.by, witness.nodes_unseen) == ("cgroup", 0)
    assert witness is None or not witness.left_out


def may_be_its_own(log: str, program: ObservedProgram, others: list[ObservedProgram]) -> bool:
    """Whether a program named the log, or no other program of its job did and none wrote elsewhere."""
    if any(written.path == log for written in program.wrote):
        return True
    is_elsewhere = any(written.path for written in program.wrote) and not program.is_cut
    is_anothers = any(written.path == log for other in others for written in other.wrote)
    is_near = program.options is None or program.cwd is None or f"{program.cwd}/logs" in log
    return is_near and not is_elsewhere and not is_anothers


def check_suspect(attempt: Attempt, found: EvalResults) -> None:
    """Something other than its script's text contradicts it."""
    is_bad = bool(found.missing) or not all(result.succeeded for result in found.results)
    if attempt.account_state is State.FAILED:
        assert found.results
        assert not is_bad
        return
    exit_code = attempt.report.exit_code if attempt.report is not None else 0
    ends_in_error = attempt.evidence is not None and attempt.evidence.ends_in_error
    assert is_bad or exit_code or ends_in_error
    if found.missing:
        assert attempt.report is not None
        assert attempt.report.eval_programs


@pytest.mark.parametrize("end", sorted(TERMINAL - {State.COMPLETED, State.LOST}))
def test_a_terminal_state_other_than_completed_is_a_failure(end: State) -> None:
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
def test_agreement_of_the_sources(end: State, said: dict[str, int] | None, expected: bool | None) -> None:
    assert expected == witnesses_agree(ended(end, said).eval)


def test_sources_of_an_active_job_neither_agree_nor_disagree() -> None:
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
def test_each_pair_of_sources_agrees_or_disagrees(end: State, said: dict[str, int] | None) -> None:
    """They agree if both say success or both say failure; unknown where the report has no end."""
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


def test_a_job_known_only_by_its_report_has_no_second_source() -> None:
    found = told(queue(20, row(State.RUNNING, start=5)), report(reported(start=6, end=50, exit_code=0)))
    found.take(queue(60), no_accounts(60))
    assert (State.COMPLETED, None) == (found.eval.state, witnesses_agree(found.eval))
