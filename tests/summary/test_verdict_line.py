"""Tests the first line: whether the evals succeeded, and what needs a person."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.diagnosis.causes import CAUSES, Diagnosis
from evalmon_agent.summary.attention import verdict_line
from evalmon_agent.summary.build import VERDICTS
from evalmon_agent.summary.records import EvalSummary, ExperimentCost, Summary
from evalmon_agent.tracking.verdict import NOT_LOOKED_FOR
from evalmon_agent.words.job_id import parse_job_id
from evalmon_agent.words.states import State


def ev(
    verdict: str = "ok",
    cause: str | None = None,
    state: str = "COMPLETED",
    name: str = "r16/cap/epoch0",
    *,
    result_unknown: str | None = None,
) -> EvalSummary:
    diagnosis = None if cause is None else Diagnosis(cause, None, None)
    return EvalSummary(
        name=name,
        job_id=parse_job_id("7"),
        attempts=[],
        state=State(state),
        verdict=verdict,
        diagnosis=diagnosis,  # type: ignore[arg-type]
        result_unknown=result_unknown,
    )


def line(*evals: EvalSummary) -> str:
    verdicts = Counter(ev.verdict for ev in evals)
    summary = Summary(
        experiment="/x",
        generated_at="",
        complete=False,
        total_time_s=None,
        counts={},
        cost=ExperimentCost(),
        causes=[],
        nodes=[],
        verdicts={verdict: verdicts[verdict] for verdict in VERDICTS},
        evals=list(evals),
    )
    return verdict_line(summary)


OOM = ev("failed", "cuda-out-of-memory", "FAILED")
RUNNING = ev("active", state="RUNNING")
EVALS = [ev(), OOM, ev("suspect"), ev("unverified"), RUNNING, ev("dropped")]


@pytest.mark.parametrize(
    ("evals", "expected"),
    [
        ([], "No evals yet"),
        ([ev()], "The eval succeeded"),
        ([ev()] * 8, "All 8 evals succeeded"),
        ([*[ev()] * 7, OOM], "7 of 8 evals succeeded; 1 needs you: r16/cap/epoch0 ran out of GPU memory"),
        ([OOM], "0 of 1 eval succeeded; 1 needs you: r16/cap/epoch0 ran out of GPU memory"),
        ([ev(), OOM, OOM], "1 of 3 evals succeeded; 2 need you: all ran out of GPU memory"),
        (
            [OOM, OOM, *[ev("failed", "cancelled", "CANCELLED")] * 3],
            "0 of 5 evals succeeded; 5 need you: 3 were cancelled, 2 ran out of GPU memory",
        ),
        (
            [*[OOM] * 4, *[ev("failed", "time-limit")] * 3, ev("failed", "cancelled"), ev("suspect")],
            (
                "0 of 9 evals succeeded; 9 need you: "
                "4 ran out of GPU memory, 3 reached the time limit, 2 failed for other reasons"
            ),
        ),
        ([ev(), ev("unverified")], "1 of 2 evals succeeded; 1 could not be verified"),
        (
            [ev(), ev("unverified"), ev("unverified", result_unknown=NOT_LOOKED_FOR)],
            "1 of 3 evals succeeded so far; 1 could not be verified; 1 not checked yet",
        ),
        (
            [
                ev(),
                ev("active", state="RUNNING"),
                *[ev("active", state="PENDING")] * 2,
                ev("active", state="UNSUBMITTED"),
            ],
            "1 of 5 evals succeeded so far; 1 running, 2 waiting in the queue, 1 not submitted yet",
        ),
        ([ev(), ev(), ev("dropped")], "All 2 evals succeeded; 1 dropped"),
        ([ev("dropped")], "No evals left; 1 dropped"),
        (
            [ev("refused", "refused-by-slurm"), ev()],
            "1 of 2 evals succeeded; 1 needs you: r16/cap/epoch0 was refused by Slurm",
        ),
        ([ev("failed", state="TIMEOUT")], "0 of 1 eval succeeded; 1 needs you: r16/cap/epoch0 reached the time limit"),
        (
            [ev("suspect"), ev("failed", state="FAILED"), ev()],
            "1 of 3 evals succeeded; 2 need you: all failed for an unknown reason",
        ),
    ],
)
def test_the_line_for_each_combination_of_verdicts(evals: list[EvalSummary], expected: str) -> None:
    assert line(*evals) == expected


def test_names_are_made_printable() -> None:
    assert "\n" not in line(ev("failed", "cancelled", name="a\nb"))


def test_each_cause_is_described_as_an_event() -> None:
    for slug, cause in CAUSES.items():
        assert cause.phrase.split()[0] not in {"the", "a", "it", "its", "no"}, slug
        assert not cause.phrase.endswith("."), slug


@given(
    st.lists(
        st.sampled_from([ev(), OOM, ev("suspect"), ev("unverified"), ev("active", state="RUNNING"), ev("dropped")])
    )
)
def test_every_eval_is_counted_once(evals: list[EvalSummary]) -> None:
    text = line(*evals)
    ok = sum(ev.verdict == "ok" for ev in evals)
    troubled = sum(ev.verdict in {"failed", "suspect"} for ev in evals)
    total = sum(ev.verdict != "dropped" for ev in evals)
    assert ("need" in text) == (troubled > 0)
    if total and ok < total:
        assert text.startswith(f"{ok} of {total} ")
    assert f"{troubled} need" in text or not troubled
