"""Tests that the header of an inspect-ai log is read as inspect-ai means it, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI, interpret, with_samples
from evalmon_agent.evidence.kinds.kind import LogFile
from evalmon_agent.evidence.result import EvalLog, EvalResult, SampleError, to_result

SPEC = {
    "created": "2026-11-23T14:41:54+00:00",
    "task": "capitals",
    "model": "hf/local",
    "task_args": {"epoch": 0},
    "dataset": {"samples": 12, "sample_ids": [1, 2, 3, 4, 5], "shuffled": False},
    "config": {"epochs": 2},
}
SCORES = [
    {
        "name": "match",
        "scorer": "match",
        "metrics": {"accuracy": {"name": "accuracy", "value": 0.9}, "stderr": {"name": "stderr", "value": 0}},
    }
]
RESULTS = {"total_samples": 10, "completed_samples": 9, "scores": SCORES}
SUCCESS = {"version": 2, "status": "success", "eval": SPEC, "plan": {}, "results": RESULTS, "stats": {}}


def read(header: dict[str, Any], *, sample_count: int | None = None) -> EvalLog | None:
    return interpret(json.loads(json.dumps(header)), sample_count=sample_count)


def known(header: dict[str, Any], *, sample_count: int | None = None) -> EvalLog:
    log = read(header, sample_count=sample_count)
    assert log is not None
    return log


def test_a_successful_log_has_counts_and_scores() -> None:
    log = known(SUCCESS, sample_count=10)
    assert to_result(replace(log, path="logs/a.eval", kind="inspect-ai"), known_by="process") == EvalResult(
        kind="inspect-ai",
        task="capitals",
        model="hf/local",
        status="success",
        samples_completed=9,
        samples_total=10,
        scores={"match/accuracy": 0.9, "match/stderr": 0.0},
        error=None,
        created="2026-11-23T14:41:54+00:00",
        log="logs/a.eval",
        known_by="process",
    )
    assert (log.created, log.task, log.model) == (
        datetime(2026, 11, 23, 14, 41, 54, tzinfo=UTC),
        "capitals",
        "hf/local",
    )


def test_a_log_without_results_counts_the_requested_samples() -> None:
    log = known({"version": 2, "eval": SPEC, "plan": {}}, sample_count=4)
    assert (log.status, log.samples_completed, log.samples_total) == ("started", 4, 10)


def test_an_error_keeps_its_message_and_completed_samples_are_not_guessed() -> None:
    header = {**SUCCESS, "status": "error", "error": {"message": "x" * 5000, "traceback": "..."}}
    del header["results"]
    log = known(header, sample_count=6)
    assert (log.status, log.samples_completed, log.samples_total) == ("error", None, 10)
    assert log.error == "x" * 2000


def test_samples_without_an_error_are_completed() -> None:
    log = replace(known(SUCCESS), samples_completed=None)
    told = with_samples(log, [{}, {"error": "a"}, {"limit": "time"}, {"error": "b", "limit": "time"}])
    assert (told.samples_completed, told.samples_failed, told.samples_limited) == (2, 2, 2)


def test_the_results_count_of_completed_samples_takes_precedence() -> None:
    told = with_samples(known(SUCCESS), [{"limit": "time"}, {}])
    assert (told.samples_completed, told.samples_failed, told.samples_limited) == (9, 0, 1)


def test_a_sample_cancelled_because_another_failed_is_neither_completed_nor_failed() -> None:
    log = known({"version": 2, "status": "error", "eval": SPEC, "stats": {}, "error": {"message": "m"}})
    samples = [{}, {"error": "FileNotFoundError(2, 'x')"}, {"error": "CancelledError('Cancelled via cancel scope 7f')"}]
    told = with_samples(log, [*samples, {"error": {"message": "Cancelled()", "traceback": "t"}}])
    assert (told.samples_completed, told.samples_failed) == (1, 1)
    assert told.sample_errors == (SampleError("missing-file", "FileNotFoundError: [Errno 2] x", 1),)


def test_scores_of_two_scorers_with_the_same_names_are_both_kept() -> None:
    scores = [{"name": "x", "scorer": scorer, "metrics": {"mean": {"value": 1}}} for scorer in ("a", "b", "b")]
    log = known({**SUCCESS, "results": {**RESULTS, "scores": scores}})
    assert list(log.scores) == ["a/x/mean", "b/x/mean", "b/x#2/mean"]


def test_the_fields_that_identify_a_log_are_read() -> None:
    spec = {
        **SPEC,
        "eval_id": "e",
        "task_id": "t",
        "task_file": "a.py",
        "model_args": {"path": "/x", "seed": 1},
    }
    log = known({**SUCCESS, "eval": spec})
    assert (log.eval_id, log.task_id, log.task_file) == ("e", "t", "a.py")
    assert log.model_args == {"path": "/x", "seed": 1}
    assert known({**SUCCESS, "eval": {**spec, "model_args": {"a": "x" * 9000}}}).model_args is None


def test_scores_of_several_reducers_are_kept_apart() -> None:
    scores = [{**SCORES[0], "reducer": reducer} for reducer in ("mean", "pass_at_2")]
    log = known({**SUCCESS, "results": {**RESULTS, "scores": scores}})
    assert set(log.scores) == {
        "match[mean]/accuracy",
        "match[mean]/stderr",
        "match[pass_at_2]/accuracy",
        "match[pass_at_2]/stderr",
    }
    assert set(known({**SUCCESS, "results": {**RESULTS, "scores": scores[:1]}}).scores) == {
        "match/accuracy",
        "match/stderr",
    }


@pytest.mark.parametrize("value", [None, True, "0.5", [1], float("nan"), float("inf"), 10**400])
def test_a_score_that_is_not_a_finite_number_has_no_value(value: object) -> None:
    scores = [{"name": "match", "metrics": {"accuracy": {"value": value}}}]
    assert known({**SUCCESS, "results": {**RESULTS, "scores": scores}}).scores == {"match/accuracy": None}


def read_json(text: bytes) -> EvalLog | None:
    """A `.json` log in pieces."""
    pieces = (text[at : at + 50] for at in range(0, len(text), 50))
    return INSPECT_AI.read(LogFile(name="a.json", modified_at=0.0, text=lambda: pieces))


def test_a_json_log_is_read_although_its_samples_are_truncated() -> None:
    inner = {**SUCCESS, "eval": {**SPEC, "metadata": {"samples": [{"error": "y"}]}}}
    text = json.dumps({**inner, "samples": [{"id": 1, "messages": ["long"], "error": "x"}] * 100}).encode()
    begin_of_samples = text.index(b'"samples": [{"id"')
    for cut in (begin_of_samples + 12, begin_of_samples + 40, len(text) - 2):
        assert read_json(text[:cut]) == known(SUCCESS)
    log = read_json(text)
    assert log is not None
    assert (log.samples_completed, log.samples_failed) == (9, 100)


def test_a_json_log_truncated_before_its_samples_is_no_log() -> None:
    text = json.dumps({**SUCCESS, "samples": []}).encode()
    for cut in range(text.index(b'"samples": [')):
        assert read_json(text[:cut]) is None


@pytest.mark.parametrize(
    "header", [{}, {"status": "success"}, {"eval": []}, {**SUCCESS, "status": "great"}, {**SUCCESS, "status": [1]}]
)
def test_other_json_is_not_a_log(header: dict[str, Any]) -> None:
    assert read(header) is None


def test_a_time_without_a_zone_is_ignored() -> None:
    assert known({**SUCCESS, "eval": {**SPEC, "created": "2024-05-05T07:59:35"}}).created is None
    assert known({**SUCCESS, "eval": {**SPEC, "created": 5}}).created is None


def test_long_names_are_not_repeated() -> None:
    metrics = {f"{'m' * 300}{number}": {"value": 1} for number in range(3000)}
    scores = [{"name": "n" * 100_000, "metrics": metrics}]
    found = known({**SUCCESS, "results": {**RESULTS, "scores": scores}}).scores
    assert sum(map(len, found)) < 1_000_000


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(list(SUCCESS)), st.one_of(LEAVES, st.just(SPEC), st.just(RESULTS))))
def test_values_of_any_type_are_accepted(changes: dict[str, Any]) -> None:
    read({**SUCCESS, **changes})


@given(st.dictionaries(st.sampled_from(list(SPEC)), LEAVES), st.dictionaries(st.sampled_from(list(RESULTS)), LEAVES))
def test_inner_values_of_any_type_are_accepted(spec: dict[str, Any], results: dict[str, Any]) -> None:
    log = read({**SUCCESS, "eval": {**SPEC, **spec}, "results": {**RESULTS, **results}})
    assert log is not None
    assert log.status == "success"
