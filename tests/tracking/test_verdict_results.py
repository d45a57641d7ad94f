"""Tests that results are settled over the whole experiment: no log counts for two evals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from evalmon_agent.evidence import owners
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState, Job, JobReport, Witness
from evalmon_agent.tracking.verdict import EvalResults, settle

T = 1_790_000_000.0


def program(at: float = T, **more: object) -> ObservedProgram:
    told = {"kind": "inspect-ai", "options": {}, "words": ("t.py",), "verb": "eval", "cwd": "/w", **more}
    return ObservedProgram(started_at=at, ended_at=at + 50, **told)  # type: ignore[arg-type]


def log(name: str = "a", at: float = T + 5, **more: object) -> EvalLog:
    whole = {"path": f"/w/logs/{name}.eval", "kind": "inspect-ai", "changed_at": at + 9, "status": "success", **more}
    return EvalLog(created=datetime.fromtimestamp(at, tz=UTC), **whole)  # type: ignore[arg-type]


def attempt(*programs: ObservedProgram, at: float = T, evidence: Evidence | None = None, seen: bool = True) -> Attempt:
    witness = Witness("cgroup") if seen else None
    report = JobReport(0, started_at=at, ended_at=at + 60, eval_programs=list(programs), witness=witness)
    return Attempt(started_at=at, ended_at=at + 60, report=report, evidence=evidence)


def ev(name: str, *jobs: list[Attempt]) -> Eval:
    numbered = [Job(f"{name}{number}", T, attempts=attempts) for number, attempts in enumerate(jobs)]
    return Eval(name, numbered[-1].job_id, final=True, jobs=numbered)


def settled(*evals: Eval, so_far: dict[str, Evidence] | None = None) -> dict[str, EvalResults]:
    return settle(ExperimentState("/exp", evals={one.name: one for one in evals}), so_far=so_far)


def shown(found: EvalResults) -> tuple[list[tuple[str | None, str | None]], int, str | None]:
    return [(one.log, one.known_by) for one in found.results], found.missing, found.unknown


def test_the_latest_attempts_logs_are_its_results_and_earlier_ones_count_for_no_other() -> None:
    both = Evidence(logs=[log("a"), log("b", T + 105)])
    again = attempt(program(T + 100), at=T + 100, evidence=both)
    for jobs in ([[attempt(program(), evidence=both), again]], [[attempt(program(), evidence=both)], [again]]):
        other = ev("other", [attempt(at=T, evidence=Evidence(logs=[log("a")]))])
        found = settled(ev("own", *jobs), other)
        assert shown(found["own"]) == ([("/w/logs/b.eval", "place")], 0, None)
        assert shown(found["other"]) == ([], 0, None)


def test_a_log_that_two_evals_may_have_written_counts_for_neither() -> None:
    left = Evidence(logs=[log()])
    found = settled(ev("one", [attempt(program(), evidence=left)]), ev("two", [attempt(program(), evidence=left)]))
    assert {shown(one)[2] for one in found.values()} == {owners.NOT_TOLD_APART}
    assert all(not one.results and not one.missing for one in found.values())
    alone = settled(ev("one", [attempt(program(), evidence=left)]))
    assert shown(alone["one"]) == ([("/w/logs/a.eval", "place")], 0, None)


@pytest.mark.parametrize("less", [{"status": "unreadable"}, {"samples_failed": None}])
@pytest.mark.parametrize("names", [["own", "beside"], ["beside", "own"]])
def test_of_one_file_read_twice_counts_what_is_known(names: list[str], less: dict[str, Any]) -> None:
    whole = attempt(program(), evidence=Evidence(logs=[log(samples_failed=0)]))
    part = attempt(program(cwd="/else"), evidence=Evidence(logs=[log(**{"samples_failed": 0, **less})]))
    evals = {name: ev(name, [whole if name == "own" else part]) for name in names}
    state = ExperimentState("/exp", evals=evals)
    for found in (settle(state), settle(state, only={"own"})):
        [result] = found["own"].results
        assert (result.status, result.samples_failed) == ("success", 0)


def test_a_program_without_a_known_end_wrote_nothing_after_its_job() -> None:
    unseen = replace(program(), ended_at=None)
    for at, shown_logs in ((T + 55, [("/w/logs/a.eval", "place")]), (T + 90, [])):
        found = settled(ev("one", [attempt(unseen, evidence=Evidence(logs=[log(at=at)]))]))
        assert shown(found["one"])[0] == shown_logs


def test_a_job_that_has_not_run_wrote_nothing() -> None:
    waits = ev("waits", [Attempt(submitted_at=T)])
    waits.final = False
    found = settled(waits, ev("one", [attempt(program(), evidence=Evidence(logs=[log()]))]))
    assert shown(found["one"]) == ([("/w/logs/a.eval", "place")], 0, None)
    assert found["waits"] == EvalResults()


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), min_size=1, max_size=8), st.integers(0, 9)
)
def test_settling_some_evals_gives_the_same_as_settling_all(runs: list[tuple[int, int, bool]], set_number: int) -> None:
    """Each run: when it began, how many of the logs of that time it found, and whether there was a witness.

    One of them may be an eval-set, which finds all earlier logs of its directory.
    """
    evals = {}
    for number, (begun, count, seen) in enumerate(runs):
        found = [(begun, count)] if number != set_number else [run[:2] for run in runs if run[0] <= begun]
        logs = {(at, n): log(f"{at}-{n}", T + 400.0 * at + 5 + n) for at, most in found for n in range(most)}
        left, start = Evidence(logs=list(logs.values()), names_framework=True), T + 400.0 * begun
        programs = [program(start, verb="eval" if number != set_number else "eval-set")] if seen else []
        evals[str(number)] = ev(str(number), [attempt(*programs, at=start, evidence=left, seen=seen)])
    state = ExperimentState("/exp", evals=evals)
    whole = settle(state)
    assert all(settle(state, only={name}) == {name: whole[name]} for name in evals)


def test_a_program_without_a_log_is_missing_and_a_truncated_one_is_unknown() -> None:
    assert shown(settled(ev("x", [attempt(program(), evidence=Evidence())]))["x"]) == ([], 1, None)
    cut = Evidence(not_all_read="no time left")
    assert shown(settled(ev("x", [attempt(program(), evidence=cut)]))["x"]) == ([], 0, "no time left")
    assert settled(ev("x", [attempt(program())]))["x"].unknown == "its output and logs were not looked at yet"


def test_a_script_that_names_a_framework_is_unknown_without_a_witness() -> None:
    named = Evidence(names_framework=True)
    assert settled(ev("x", [attempt(evidence=named, seen=False)]))["x"].unknown == owners.NOBODY_SAW
    assert settled(ev("x", [attempt(evidence=named)]))["x"].unknown is None
    printed = Evidence(names_framework=True, logs=[log()], printed=[log().path])
    assert shown(settled(ev("x", [attempt(evidence=printed, seen=False)]))["x"])[0] == [("/w/logs/a.eval", "output")]


def test_an_eval_set_also_has_the_logs_of_tasks_that_were_already_complete() -> None:
    before, now = log("a", T + 5, task_id="a"), log("b", T + 105, task_id="b")
    left = Evidence(logs=[before, now])
    again = attempt(program(T + 100, verb="eval-set"), at=T + 100, evidence=left)
    found = settled(ev("x", [attempt(program(verb="eval-set"), evidence=Evidence(logs=[before]))], [again]))
    assert sorted(one.log or "" for one in found["x"].results) == [before.path, now.path]
    failed = replace(before, status="error")
    alone = attempt(program(T + 100, verb="eval-set"), at=T + 100, evidence=Evidence(logs=[failed]))
    assert shown(settled(ev("x", [alone]))["x"]) == ([], 1, None)


def test_a_running_eval_has_the_logs_so_far() -> None:
    running = ev("x", [attempt(program())])
    running.final = False
    assert shown(settled(running, so_far={"x": Evidence(logs=[log()])})["x"])[0] == [("/w/logs/a.eval", "place")]


def test_a_settings_file_can_name_the_log_directory() -> None:
    lm_eval = ObservedProgram(
        kind="lm-evaluation-harness",
        started_at=T,
        ended_at=T + 50,
        verb="run",
        options={"config": ("c.yaml",)},
        cwd="/w",
    )
    path = "/w/out/m/results.json"
    left = Evidence(logs=[log(path=path, kind="lm-evaluation-harness")], configured={"/w/c.yaml": "out"})
    assert shown(settled(ev("x", [attempt(lm_eval, evidence=left)]))["x"])[0] == [(path, "place")]
