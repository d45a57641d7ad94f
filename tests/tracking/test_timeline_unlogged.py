"""Tests which transitions are still to be logged: each once, and none that the log has or has passed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmon_agent.tracking.records import Attempt, Logged
from evalmon_agent.tracking.timeline import Step, unlogged
from evalmon_agent.words.states import State

LETTERS = {
    "P": State.PENDING,
    "R": State.RUNNING,
    "S": State.SUSPENDED,
    "Q": State.REQUEUED,
    "C": State.COMPLETED,
    "F": State.FAILED,
    "N": State.NODE_FAIL,
    "L": State.LOST,
}
ATTEMPT = Attempt()
WORDS = {state: letter for letter, state in LETTERS.items()}


def news(logged: str, path: str) -> str:
    """The transitions to be logged, as letters; `p` on the path is a registration. Each `Previous` is checked."""
    steps = [Step("1", LETTERS[c.upper()], None, None if c == "p" else ATTEMPT) for c in path]
    last = LETTERS[logged[-1]] if logged else State.PENDING
    found = ""
    for step, previous in unlogged(steps, [Logged("1", LETTERS[c]) for c in logged]):
        assert last == previous
        last = step.state
        found += WORDS[step.state]
    return found


@pytest.mark.parametrize(
    ("logged", "path", "expected"),
    [
        ("", "p", ""),
        ("", "pR", "R"),
        ("R", "pR", ""),
        ("R", "pRC", "C"),
        ("", "pRSRSC", "RSRSC"),
        ("RS", "pRSR", "R"),
        ("RQ", "pRQPRQPRC", "PRQPRC"),
    ],
)
def test_transitions_after_the_end_of_the_log_are_new(logged: str, path: str, expected: str) -> None:
    assert expected == news(logged, path)


@pytest.mark.parametrize(
    ("logged", "path", "expected"),
    [
        ("RC", "p", ""),
        ("RC", "pR", ""),
        ("RQPRC", "pRQPR", ""),
        ("RSRQPR", "pRQP", ""),
        ("RSRQPR", "pRQPRQPR", "QPR"),
        ("RSRSRC", "pRC", ""),
        ("RS", "pR", ""),
    ],
)
def test_a_log_that_has_more_than_a_lost_state_gets_nothing_twice(logged: str, path: str, expected: str) -> None:
    assert expected == news(logged, path)


@pytest.mark.parametrize(
    ("logged", "path", "expected"),
    [
        ("C", "pRC", ""),
        ("RC", "pRSRC", ""),
        ("RQP", "pRSRQPR", "R"),
        ("RQPR", "pRQPRQPRC", "QPRC"),
    ],
)
def test_a_transition_that_belongs_before_the_end_of_the_log_is_left_out(logged: str, path: str, expected: str) -> None:
    assert expected == news(logged, path)


@pytest.mark.parametrize(
    ("logged", "path", "expected"),
    [
        ("RL", "pR", ""),
        ("RL", "pRC", "C"),
        ("RLC", "pRC", ""),
        ("RLC", "pRCPR", "PR"),
        ("L", "pR", "R"),
        ("RF", "pRC", "C"),
        ("RQ", "pRNP", "NP"),
    ],
)
def test_the_log_continues_from_its_own_end_where_the_path_differs(logged: str, path: str, expected: str) -> None:
    assert expected == news(logged, path)


def test_jobs_of_one_eval_are_kept_apart() -> None:
    steps = [Step(job, state, None, ATTEMPT) for job in "12" for state in (State.RUNNING, State.FAILED)]
    logged = [Logged("1", State.RUNNING), Logged("1", State.FAILED), Logged("2", State.RUNNING)]
    assert [(steps[3], State.RUNNING)] == list(unlogged(steps, logged))
    assert [(steps[2], State.PENDING), (steps[3], State.RUNNING)] == list(unlogged(steps, logged[:2]))


RUN = "(R(SR){0,2}S?)?"
PATHS = st.builds(
    lambda path, length: path[:length],
    st.from_regex(rf"{RUN}[QCFNL](P{RUN}[QCFNL]){{0,2}}", fullmatch=True),
    st.integers(0, 20),
)


@settings(max_examples=300)
@given(st.one_of(PATHS, st.text("RSQPCFNL", max_size=8)), PATHS)
def test_a_path_is_logged_once_whatever_the_log_has(logged: str, path: str) -> None:
    steps = [Step("1", LETTERS[c], None, ATTEMPT) for c in path]
    log = [Logged("1", LETTERS[c]) for c in logged]
    log += [Logged(step.job_id, step.state) for step, _ in unlogged(steps, log)]
    assert [] == list(unlogged(steps, log))


@settings(max_examples=300)
@given(PATHS, st.lists(st.integers(0, 20)))
def test_a_growing_path_is_logged_step_by_step_and_completely(path: str, lengths: list[int]) -> None:
    logged = ""
    for length in [*sorted(lengths), len(path)]:
        logged += news(logged, path[:length])
    assert path == logged
