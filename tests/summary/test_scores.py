"""Tests scores by run, task and epoch: the value with its standard error, or the reason why it is missing."""

from __future__ import annotations

import msgspec
import pytest

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.summary.records import EvalSummary
from evalmon_agent.summary.scores import EPOCHS_AT_MOST, Score, score_table
from summary.summarised import finished, only


def scored(name: str, verdict: str = "ok", **scores: float | None) -> EvalSummary:
    """An eval with these scores; in their names, `__` stands for `/` and a final `_` is dropped."""
    named = {metric.replace("__", "/"): value for metric, value in scores.items()}
    results = [EvalResult(status="success", scores=named)] if named else []
    return msgspec.structs.replace(only(finished()), name=name, verdict=verdict, results=results)


def cells(*evals: EvalSummary) -> dict[tuple[str, str, str], list[str]]:
    table = score_table(evals)
    return {(row.task, row.run, row.metric): [str(row.cells.get(e, "")) for e in table.epochs] for row in table.rows}


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (Score(2 / 3, 0.14213), "0.67 ± 0.14"),
        (Score(0.66666, 0.0123), "0.667 ± 0.012"),
        (Score(66.6, 12.3), "67 ± 12"),
        (Score(1.0, 0.0), "1.00 ± 0.00"),
        (Score(0.5), "0.5"),
        (Score(2 / 3), "0.6667"),
        (Score(None, 0.1), "nan"),
        (Score(1e-9, 1e-12), "0.000000 ± 0.000000"),
    ],
)
def test_a_score_is_printed_with_its_standard_error(score: Score, expected: str) -> None:
    assert str(score) == expected


def test_scores_of_a_dropped_eval_are_left_out() -> None:
    found = cells(scored("r/cap/epoch0", a__b=0.5), scored("r/cap/epoch1", "dropped", a__b=0.75))
    assert found == {("cap", "r", "a/b"): ["0.5", "dropped"]}


def test_each_task_run_and_metric_has_a_row_and_each_epoch_a_column() -> None:
    found = cells(
        scored("r16/cap/epoch1", match__accuracy=0.5, match__stderr=0.1),
        scored("r16/cap/epoch0", match__accuracy=0.25, match__stderr=0.1),
        scored("r8/cap/epoch1", match__accuracy=0.75),
    )
    assert found == {
        ("cap", "r16", "match/accuracy"): ["0.25 ± 0.10", "0.50 ± 0.10"],
        ("cap", "r8", "match/accuracy"): ["", "0.75"],
    }


def test_missing_scores_are_marked_with_the_reason() -> None:
    evals = [
        scored("r/t/epoch0", m__accuracy=0.5),
        scored("r/t/epoch1", "failed"),
        scored("r/t/epoch2", "active"),
        scored("r/t/epoch3"),
    ]
    assert cells(*evals) == {("t", "r", "m/accuracy"): ["0.5", "failed", "active", "no score"]}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"m__mean": 3.5, "m__std": 1.0, "m__bootstrap_stderr": 0.2}, {"m/mean": "3.50 ± 0.20"}),
        ({"m__f1": 0.5, "m__stderr": 0.1}, {"m/f1": "0.50 ± 0.10"}),
        ({"m__f1": 0.5, "m__accuracy": 0.6, "m__stderr": 0.1}, {"m/accuracy": "0.60 ± 0.10", "m/f1": "0.5"}),
        ({"a__accuracy": 0.5, "b__stderr": 0.1}, {"a/accuracy": "0.5"}),
        ({"m__accuracy": None, "m__stderr": None}, {"m/accuracy": "nan"}),
    ],
)
def test_a_standard_error_belongs_to_the_main_metric_of_its_scorer(
    scores: dict[str, float | None], expected: dict[str, str]
) -> None:
    assert {metric: cell for (_, _, metric), [cell] in cells(scored("r/t/epoch0", **scores)).items()} == expected


def test_lm_eval_gives_each_metric_its_own_standard_error() -> None:
    result = EvalResult(
        status="success",
        scores={
            "gsm8k/exact_match,strict": 0.5,
            "gsm8k/exact_match_stderr,strict": 0.02,
            "gsm8k/exact_match,flex": 0.6,
        },
    )
    found = cells(msgspec.structs.replace(scored("r/gsm8k"), results=[result]))
    assert found == {
        ("gsm8k", "r", "gsm8k/exact_match,flex"): ["0.6"],
        ("gsm8k", "r", "gsm8k/exact_match,strict"): ["0.500 ± 0.020"],
    }


def test_an_eval_with_several_results_has_a_row_for_each() -> None:
    results = [EvalResult(status="success", task=task, scores={"m/accuracy": 0.5}) for task in ("a", "b")]
    found = cells(msgspec.structs.replace(scored("r/t/epoch0"), results=results))
    assert list(found) == [("t: a", "r", "m/accuracy"), ("t: b", "r", "m/accuracy")]


def test_an_eval_without_an_epoch_has_a_column_and_no_point() -> None:
    [row] = score_table([scored("alone", m__accuracy=0.5), scored("alone2")]).rows
    assert (row.run, row.task, list(row.cells), row.points) == ("", "alone", [None], [])


def test_only_the_last_twelve_epochs_are_columns() -> None:
    table = score_table([scored(f"r/t/epoch{n}", m__accuracy=0.5) for n in range(20)])
    assert list(table.epochs) == list(range(20 - EPOCHS_AT_MOST, 20))
    assert len(table.rows[0].points) == 20


def test_a_run_without_scores_has_the_other_runs_rows_and_a_task_without_scores_has_none() -> None:
    evals = [scored("r8/t/epoch0", "failed"), scored("r8/t/epoch1", "suspect"), scored("r16/t/epoch1", m__accuracy=0.5)]
    assert cells(*evals, scored("r8/other/epoch0", "failed")) == {
        ("t", "r16", "m/accuracy"): ["", "0.5"],
        ("t", "r8", "m/accuracy"): ["failed", "suspect"],
    }
