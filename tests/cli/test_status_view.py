"""Tests the output of `evalmon status`: the verdict first, a table that fits, whole names."""

from __future__ import annotations

import os

import click
import pytest

from evalmon_agent.cli.status_view import Choice, SamplesSoFar, samples_of_running, status_text
from evalmon_agent.commands.report import report_text
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.experiment.state import Heartbeat
from evalmon_agent.summary import failures
from evalmon_agent.summary.records import EvalSummary, ExperimentCost, Summary
from evalmon_agent.words.job_id import parse_job_id
from evalmon_agent.words.states import State

NOW = 1_700_000_000.0


def ev(name: str, verdict: str = "ok", state: str = "COMPLETED", **more: object) -> EvalSummary:
    job_id = parse_job_id("10284713")
    values: dict[str, object] = {"elapsed_s": 300.0, "time_limit_s": 1800.0, **more}
    return EvalSummary(name=name, job_id=job_id, attempts=[], state=State(state), verdict=verdict, **values)  # type: ignore[arg-type]


def summary(*evals: EvalSummary, complete: bool = False) -> Summary:
    verdicts = dict.fromkeys(("ok", "failed", "suspect", "unverified", "active", "refused", "dropped"), 0)
    for one in evals:
        verdicts[one.verdict] += 1
    return Summary(
        experiment="/x",
        generated_at="",
        complete=complete,
        total_time_s=None,
        counts={},
        cost=ExperimentCost(),
        causes=failures.by_cause(evals),
        nodes=[],
        verdicts=verdicts,
        evals=list(evals),
    )


def lines(
    of: Summary, *, columns: int = 80, rows: int = 24, choice: Choice | None = None, heartbeat: Heartbeat | None = None
) -> list[str]:
    size = os.terminal_size((columns, rows))
    return click.unstyle(status_text(of, heartbeat, choice or Choice(), now=NOW, size=size)).splitlines()


RUN = "qwen3-8b-lora-r16-lr1e-4-seed2"
MANY = [
    *[ev(f"{RUN}/capitalization/epoch{n}") for n in range(120)],
    *[ev(f"{RUN}/sums/epoch{n}", "active", "PENDING", elapsed_s=None) for n in range(78)],
    ev(f"{RUN}/sums/epoch90", "failed", "OUT_OF_MEMORY"),
    ev(f"{RUN}/sums/epoch91", "active", "RUNNING"),
]


def test_a_runs_name_is_printed_once_and_everything_fits_in_80_columns() -> None:
    text = lines(summary(*MANY[:6], *MANY[-2:]))
    assert text[1] == f"{RUN}/sums/epoch90 ran out of memory; 1 running"
    assert text.count(f"{RUN}/") == 1
    assert [line.split()[0] for line in text[-2:]] == ["sums/epoch90", "sums/epoch91"]
    assert "failed (out of memory)" in text[-2]
    assert max(map(len, text)) <= 80


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (40, 10), (20, 5)])
def test_the_table_has_no_more_rows_than_the_terminal(columns: int, rows: int) -> None:
    text = lines(summary(*MANY), columns=columns, rows=rows)
    assert len(text) < rows or columns < 80
    assert "epoch90" in "".join(text)  # failures come first


def test_all_evals_are_shown_with_all() -> None:
    text = lines(summary(*MANY), choice=Choice(show_all=True))
    table = text[text.index(f"{RUN}/") :]
    assert sum("epoch" in line for line in table) == len(MANY)


def test_an_empty_column_is_left_out() -> None:
    heading = next(line for line in lines(summary(*MANY[:3]), columns=120) if line.startswith("Eval"))
    assert heading.split() == ["Eval", "Outcome", "Elapsed", "Limit", "Job"]


def test_only_evals_that_need_attention_are_listed_on_request_below_the_verdict_of_all() -> None:
    text = lines(summary(*MANY), choice=Choice(failed=True))
    assert text[0].startswith("120 of 200 evals")
    assert [line.split()[0] for line in text[text.index(f"{RUN}/") :]] == [f"{RUN}/", "sums/epoch90"]


def test_evals_are_sorted_as_requested() -> None:
    evals = [ev("r/b", elapsed_s=1.0), ev("r/a", elapsed_s=9.0), ev("r/c", "failed", "FAILED", elapsed_s=5.0)]
    shown = {
        sort: [line.split()[0] for line in lines(summary(*evals), choice=Choice(sort=sort))[-3:]]
        for sort in ("name", "state", "elapsed")
    }
    assert shown == {
        "name": ["r/a", "r/b", "r/c"],
        "state": ["r/c", "r/a", "r/b"],
        "elapsed": ["r/a", "r/c", "r/b"],
    }


def test_the_age_of_the_data_and_the_remaining_time_are_shown() -> None:
    beat = Heartbeat(role="sidecar", host="n1", pid=1, job_id=parse_job_id("77"), polled_at=NOW - 12)
    evals = [ev("r/a"), ev("r/b", "active", "RUNNING", elapsed_s=60.0), ev("r/c", "active", "PENDING", elapsed_s=None)]
    expected = "Slurm was asked 12 seconds ago by the sidecar job 77; about 9 minutes left at this pace"
    assert lines(summary(*evals), columns=120, heartbeat=beat)[1] == expected
    assert lines(summary(ev("r/a"), complete=True))[1] == "Monitoring is complete"
    assert lines(summary(ev("r/a", "active", "PENDING")))[1] == "Slurm has not been asked yet"


def test_in_a_pipe_each_eval_has_one_line_with_its_full_name() -> None:
    text = status_text(summary(*MANY), None, Choice(), now=NOW, size=None).splitlines()
    assert sum(line.startswith(f"{RUN}/") for line in text) == len(MANY)


def so_far(done: int | None, total: int | None) -> EvalResult:
    return EvalResult(kind="inspect-ai", status="started", samples_completed=done, samples_total=total)


def test_a_running_evals_samples_say_how_long_it_takes_from_a_tenth_of_them_on() -> None:
    def left(*results: EvalResult) -> str:
        evals = [
            ev(f"r/{n}", "active", "RUNNING", elapsed_s=600.0, time_limit_s=None, result=result, results=[result])
            for n, result in enumerate(results)
        ]
        return lines(summary(*evals), columns=120)[1]

    assert left(so_far(50, 100)).endswith("; about 10 minutes left at this pace")
    assert left(so_far(50, 100), so_far(20, 100)).endswith("; about 25 minutes left at this pace")
    assert left(so_far(9, 100)) == left(so_far(None, 100)) == left(so_far(5, None)) == "Slurm has not been asked yet"


def test_samples_are_added_up_over_the_running_evals_of_which_they_are_known() -> None:
    results = [so_far(50, 100), so_far(None, 100), so_far(3, 10), so_far(0, 0)]
    evals = [ev(f"r/{n}", "active", "RUNNING", result=result) for n, result in enumerate(results)]
    over = ev("r/over", result=so_far(7, 7))
    assert samples_of_running(summary(*evals, over)) == SamplesSoFar(done=53, total=110, evals=2, running=4)
    assert samples_of_running(summary(over)) is None


@pytest.mark.parametrize("epochs", [range(12), range(1, 11), range(1, 4)])
def test_a_report_says_how_many_epochs_it_leaves_out(epochs: range) -> None:
    result = EvalResult(status="success", scores={"match/accuracy": 0.12345, "match/stderr": 0.01234})
    evals = [ev(f"{RUN}/sums/epoch{n}", results=[result]) for n in epochs]
    text = report_text(summary(*evals), width=80)
    shown = [n for n in epochs if f"Epoch {n} " in text.replace("\n", " ")]
    left_out = len(epochs) - len(shown)
    assert (f"({left_out} epochs left out;" in text) == (left_out > 1), text
    assert shown == list(epochs)[left_out:]
