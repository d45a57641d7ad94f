"""Tests whether a process can have written a log: only contradicting time, place, model or arguments exclude it."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from evalmon_agent.agent.witness.command_line import parse
from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.evidence.kinds.lm_eval import LM_EVAL
from evalmon_agent.evidence.owners import could_have_written
from evalmon_agent.evidence.result import EvalLog

START_S = 1_771_597_692.6


def run(line: str) -> ObservedProgram:
    command = parse(shlex.split(line))
    assert command is not None
    return ObservedProgram(
        kind=command.program.kind,
        verb=command.verb,
        words=command.words,
        options={name: tuple(values) for name, values in command.options.items()},
        cwd="/exp/run",
        started_at=START_S,
        ended_at=START_S + 300,
    )


LOG = EvalLog(
    status="success",
    path="/exp/run/logs/2026_sums.eval",
    kind="inspect-ai",
    created=datetime.fromtimestamp(int(START_S + 4), tz=UTC),
    task="sums",
    model="hf/local",
    task_file="x/t.py",
    model_args={"path": "/m"},
)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--log-dir logs",
        "--log-dir /exp/run/logs",
        "--log-dir ./logs/",
        "--log-dir file:///exp/run/logs",
        "--model hf/local",
        "--model hf/other,hf/local",
        "-M path=/m",
    ],
)
def test_a_log_that_agrees_can_be_the_processs_own(options: str) -> None:
    for task in ("t.py", "t.py@sums", "x/t.py w.py", "package/sums", "tasks", ""):
        assert could_have_written(run(f"inspect eval {task} {options}"), LOG)


@pytest.mark.parametrize(
    "line",
    [
        "t.py --log-dir other",
        "t.py --log-dir log",
        "t.py --model hf/other",
        "t.py@words",
        "words.py",
        "words.py@sums",
        "t.py -M path=/other",
    ],
)
def test_a_log_that_contradicts_cannot_be_the_processs_own(line: str) -> None:
    assert not could_have_written(run(f"inspect eval {line}"), LOG)


@pytest.mark.parametrize(("after_s", "can_be"), [(-30, False), (0, True), (300, True), (330, False)])
def test_the_eval_must_have_started_while_the_process_ran(after_s: float, can_be: bool) -> None:
    log = replace(LOG, created=datetime.fromtimestamp(int(START_S + after_s), tz=UTC))
    assert could_have_written(run("inspect eval t.py"), log) is can_be
    assert could_have_written(run("inspect eval t.py"), replace(LOG, created=None, changed_at=START_S + 300))
    assert not could_have_written(run("inspect eval t.py"), replace(LOG, created=None, changed_at=START_S + 330))


def test_a_running_process_has_no_end_yet() -> None:
    later = replace(LOG, created=datetime.fromtimestamp(START_S + 9000, tz=UTC))
    assert could_have_written(replace(run("inspect eval t.py"), ended_at=None), later)


def test_arguments_missing_in_the_log_contradict_nothing() -> None:
    assert could_have_written(run("inspect eval t.py -M path=/x"), replace(LOG, model_args=None))


PATH = "/exp/run/out/results_2026-11-25T17-58-37.243692.json"
RESULTS = replace(LOG, kind="lm-evaluation-harness", path=PATH, model_args={"pretrained": "/m", "dtype": "half"})


@pytest.mark.parametrize(
    ("options", "can_be"),
    [
        ("--output_path out", True),
        ("--output_path out/results.json", True),
        ("--output_path other", False),
        ("--output_path out --model_args pretrained=/m,dtype=half,seed=3", True),
        ("--output_path out --model_args pretrained=/other", False),
        ("--output_path out --tasks a_tag", True),
        ("--tasks sums", False),
    ],
)
def test_lm_evals_results_are_compared(options: str, can_be: bool) -> None:
    assert could_have_written(run(f"lm_eval --model hf {options}"), RESULTS) is can_be


@pytest.mark.parametrize(
    ("told", "is_named"),
    [("--tasks a,sums", True), ("--tasks sums", True), ("--tasks a_tag", False), ("--limit 3", None)],
)
def test_tasks_are_compared_by_name(told: str, is_named: bool | None) -> None:
    assert LM_EVAL.names_task(run(f"lm_eval {told}"), RESULTS) is is_named
    assert INSPECT_AI.names_task(run("inspect eval t.py@sums"), LOG) is None


def test_a_settings_file_can_name_the_directory() -> None:
    seen = run("lm_eval run --config c.yaml")
    assert LM_EVAL.directory_of(seen) is None
    assert LM_EVAL.directory_of(LM_EVAL.configured(seen, {"/exp/run/c.yaml": "deep/out"})) == "/exp/run/deep/out"
    assert LM_EVAL.writes_none(LM_EVAL.configured(seen, {"/exp/run/c.yaml": ""}))
    assert not LM_EVAL.writes_none(seen)
