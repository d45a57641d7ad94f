"""Tests the reading of results files of lm_eval 0.4.13 (tests/evidence/lm_eval), and of damaged ones.

The grouped one has no `configs` of its tasks; they are like those of the limited one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.kinds import KINDS, is_named_in
from evalmon_agent.evidence.kinds.lm_eval import LM_EVAL, interpret

FOLDER = Path(__file__).with_name("lm_eval")
LIMITED, GROUPED = ((FOLDER / f"{name}.json").read_bytes() for name in ("limited", "grouped"))
WRITTEN_AT = 1_795_629_600.0


def test_a_tasks_scores_have_their_own_names() -> None:
    log = interpret([LIMITED], modified_at=WRITTEN_AT)
    assert log is not None
    assert (log.status, log.task, log.model, log.error) == ("success", "sums", "qdpv68r5", None)
    assert log.scores == {"sums/acc,none": 0.6666666666666666, "sums/acc_stderr,none": 0.33333333333333337}
    assert log.created == datetime.fromtimestamp(1795629517.1075227, tz=UTC)


def test_with_a_limit_the_requested_samples_are_counted() -> None:
    log = interpret([LIMITED], modified_at=WRITTEN_AT)
    assert log is not None
    assert (log.samples_completed, log.samples_total) == (3, 3)


def test_a_group_counts_its_tasks_once_and_has_its_own_score() -> None:
    log = interpret([GROUPED], modified_at=WRITTEN_AT)
    assert log is not None
    assert (log.samples_completed, log.samples_total) == (8, 8)
    assert log.scores["both/acc,none"] == 0.75
    assert set(log.scores) == {
        f"{task}/acc{kind},none" for task in ("sums", "sums2", "both") for kind in ("", "_stderr")
    }


def test_a_metric_that_is_not_a_number_has_no_value() -> None:
    changed = json.loads(LIMITED)
    changed["results"]["sums"] |= {"acc,none": float("nan"), "acc_stderr,none": "N/A"}
    log = interpret([json.dumps(changed).encode()], modified_at=WRITTEN_AT)
    assert log is not None
    assert log.scores == {"sums/acc,none": None}


@pytest.mark.parametrize("args", ["pretrained=/m,dtype=float16", {"pretrained": "/m", "dtype": "float16"}])
def test_model_arguments_are_read_from_a_text_or_an_object(args: object) -> None:
    changed = json.loads(LIMITED)
    changed["config"]["model_args"] = args
    log = interpret([json.dumps(changed).encode()], modified_at=WRITTEN_AT)
    assert log is not None
    assert log.model_args == {"pretrained": "/m", "dtype": "float16"}


def test_without_a_date_the_start_is_the_time_of_the_file() -> None:
    old = {key: value for key, value in json.loads(LIMITED).items() if key not in {"date", "n-samples", "model_name"}}
    log = interpret([json.dumps(old).encode()], modified_at=WRITTEN_AT)
    assert log is not None
    assert log.created == datetime.fromtimestamp(WRITTEN_AT, tz=UTC)
    assert (log.samples_completed, log.samples_total, log.model) == (None, None, "dummy")


def test_a_truncated_file_is_no_success() -> None:
    end_of_results = LIMITED.index(b'"config": {')
    for cut in range(0, end_of_results, 7):
        assert interpret([LIMITED[:cut]], modified_at=WRITTEN_AT) is None


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(sorted(json.loads(LIMITED))), LEAVES | st.dictionaries(st.text(), LEAVES)))
def test_values_of_any_type_are_accepted(changes: dict[str, Any]) -> None:
    interpret([json.dumps({**json.loads(LIMITED), **changes}).encode()], modified_at=WRITTEN_AT)


@pytest.mark.parametrize(
    "name", ["results_2026-11-25T17-58-37.243692.json", "results.json", "my_2026-11-25T17-58-37.1.json"]
)
def test_lm_evals_file_names_are_recognised(name: str) -> None:
    assert LM_EVAL.files.fullmatch(name)


@pytest.mark.parametrize("name", ["samples_sums_2026-11-25T17-58-37.2.jsonl", "config.json", ".results.json"])
def test_other_file_names_are_not_recognised(name: str) -> None:
    assert not LM_EVAL.files.fullmatch(name)


@pytest.mark.parametrize(
    ("script", "is_named"),
    [
        ("lm_eval --model hf --tasks mmlu --output_path out", True),
        ("lm-eval run --tasks mmlu -o out", True),
        ("accelerate launch -m lm_eval --output_path=out", True),
        ("/opt/env/bin/lm_eval --output_path out", True),
        ("cd lm_eval.d && ls --output_path", False),
        ("inspect eval t.py", True),
        ("srun inspect eval-set a b", True),
        ("python -c 'import inspect_ai'", True),
        ("inspect view", False),
        ("./run.sh", False),
        ("", False),
    ],
)
def test_scripts_that_name_a_framework_are_recognised(script: str, is_named: bool) -> None:
    assert is_named_in(script) is is_named


def test_each_kind_has_a_unique_name() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
