"""Tests which attempt each report belongs to, where numbers, order and times disagree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.tracking.records import Attempt, JobReport
from evalmon_agent.tracking.timeline import JobFacts, pairs
from evalmon_agent.words.states import State
from tracking.rows import T, Told, account, accounts, no_accounts, queue, report, row, told
from tracking.rows import reported as ran

SURE = JobFacts(is_first=True, is_queued=True)
VAGUE = JobFacts(is_first=False, is_queued=True)
A = Attempt(T + 1, ran=True, started_at=T + 5, ended_at=T + 400)
B = Attempt(T + 405, ran=True, started_at=T + 530)
C = Attempt(T + 905, ran=True, started_at=T + 1030)
WAITING = Attempt(T + 405)
LAST = Attempt(T + 905)


def laid(attempts: list[Attempt], owns: list[JobReport], known: JobFacts = SURE) -> list[tuple[str | None, int | None]]:
    """(which attempt, which restart) of each incarnation."""
    names = {id(A): "A", id(B): "B", id(C): "C", id(WAITING): "waiting", id(LAST): "last"}
    found = pairs(attempts, owns, known)
    return [(None if a is None else names[id(a)], None if o is None else o.restart) for a, o in found]


@pytest.mark.survives("F18")
@pytest.mark.parametrize(
    ("attempts", "owns", "known", "expected"),
    [
        pytest.param([A, B], [ran(0), ran(1, start=531)], SURE, [("A", 0), ("B", 1)], id="by number"),
        pytest.param([A, B], [ran(0), ran(2, start=531)], SURE, [("A", 0), ("B", 2)], id="up by two"),
        pytest.param([B], [ran(0), ran(2, start=531)], VAGUE, [(None, 0), ("B", 2)], id="the lost run has no row"),
        pytest.param(
            [A, B, LAST], [ran(0), ran(2, start=531)], SURE, [("A", 0), ("B", 2), ("last", None)], id="and on"
        ),
        pytest.param([WAITING], [ran(0)], VAGUE, [(None, 0), ("waiting", None)], id="one that waits has not started"),
        pytest.param([A], [ran(0), ran(1, start=531)], SURE, [("A", 0), (None, 1)], id="Slurm does not know it yet"),
        pytest.param(
            [A, B, C], [ran(2, start=1031)], SURE, [("A", None), ("B", None), ("C", 2)], id="two said nothing"
        ),
        pytest.param([], [ran(0), ran(2, start=531)], SURE, [(None, 0), (None, 2)], id="no witness but the reports"),
        pytest.param([A, B], [], SURE, [("A", None), ("B", None)], id="no report"),
        pytest.param([A], [ran(0, start=-300)], SURE, [("A", 0)], id="a node five minutes behind"),
        pytest.param([A, B], [ran(0, start=-290), ran(1, start=230)], SURE, [("A", 0), ("B", 1)], id="both behind"),
        pytest.param([A], [ran(0, start=3605)], SURE, [("A", 0)], id="an hour ahead"),
        pytest.param([B], [ran(1, start=231)], VAGUE, [("B", 1)], id="behind, and earlier attempts unknown"),
        pytest.param([B], [ran(1, start=None)], VAGUE, [("B", 1)], id="no time at all"),
    ],
)
def test_each_report_belongs_to_its_attempt(
    attempts: list[Attempt], owns: list[JobReport], known: JobFacts, expected: list[tuple[str | None, int | None]]
) -> None:
    assert expected == laid(attempts, owns, known)


def test_an_absurd_restart_count_costs_little() -> None:
    many = [ran(n, start=float(n)) for n in range(5_000)]
    attempts = [Attempt(T + n, ran=True, started_at=T + n) for n in range(4_000)]
    assert 5_000 == len(pairs(attempts, many, SURE))


@pytest.mark.survives("F18")
def test_the_end_of_the_second_run_is_not_taken_for_that_of_the_first() -> None:
    """The node of the first run vanished; accounting never had that run, and the restart count went up by two."""
    found = told(report(ran(0, start=6)), queue(800, row(State.RUNNING, submit=405, start=530)))
    found.take(report(ran(0, start=6), ran(2, start=531, end=700, exit_code=0)))
    done = account(State.COMPLETED, submit=405, start=530, end=701)
    found.take(*(facts for n in (900, 1020, 1140) for facts in (queue(n), accounts(n, done))))
    assert found.path == [
        "PENDING>RUNNING",
        "RUNNING>REQUEUED",
        "REQUEUED>PENDING",
        "PENDING>RUNNING",
        "RUNNING>COMPLETED",
    ]
    assert [(None, 0), (T + 405, 2)] == seen(found)


@pytest.mark.survives("F17", "F18")
def test_reports_are_matched_without_accounting() -> None:
    found = told(queue(10, row(State.RUNNING, start=5)), report(ran(0, start=6)))
    found.take(queue(500, row(State.PENDING, submit=405)), no_accounts(500))
    found.take(report(ran(0, start=6), ran(2, start=531, end=700, exit_code=3)), queue(800), no_accounts(800))
    assert ["REQUEUED>PENDING", "PENDING>RUNNING", "RUNNING>FAILED"] == found.path[-3:]
    assert [(T + 1, 0), (T + 405, 2)] == seen(found)


def seen(found: Told) -> list[tuple[float | None, int | None]]:
    """(Submit, restart) of each incarnation."""
    return [(a.submitted_at, a.report.restart if a.report is not None else None) for a in found.attempts]


SECONDS = st.none() | st.integers(0, 4000).map(lambda s: T + s)


@st.composite
def anything(draw: st.DrawFn) -> tuple[list[Attempt], list[JobReport]]:
    submits = sorted(draw(st.sets(st.integers(0, 4000), max_size=5)))
    attempts = [
        Attempt(T + s, ran=draw(st.booleans()), started_at=draw(SECONDS), ended_at=draw(SECONDS)) for s in submits
    ]
    restarts = sorted(draw(st.sets(st.integers(0, 9), max_size=5)))
    return attempts, [JobReport(restart, started_at=draw(SECONDS)) for restart in restarts]


@given(anything(), st.booleans(), st.booleans())
def test_each_attempt_is_listed_once_and_in_order(
    found: tuple[list[Attempt], list[JobReport]], is_first: bool, is_queued: bool
) -> None:
    attempts, owns = found
    laid_out = pairs(attempts, owns, JobFacts(is_first=is_first, is_queued=is_queued))
    assert attempts == [attempt for attempt, _ in laid_out if attempt is not None]
    assert owns == [own for _, own in laid_out if own is not None]
    assert all(attempt is not None or own is not None for attempt, own in laid_out)
    both = [(attempts.index(a), o.restart) for a, o in laid_out if a is not None and o is not None]
    assert all(number <= restart for number, restart in both)
