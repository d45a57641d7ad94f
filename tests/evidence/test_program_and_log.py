"""Whether a process can have written a log: only what contradicts it, in time, place, model or arguments, says no."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI
from evalmon_agent.evidence.kinds.kind import ProgramRun
from evalmon_agent.evidence.kinds.lm_eval import LM_EVAL
from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.words.eval_programs import eval_command

START_S = 1_771_597_692.6


def run(line: str) -> ProgramRun:
    command = eval_command(shlex.split(line))
    assert command is not None
    return ProgramRun(command=command, directory="/exp/run", started_at=START_S, ended_at=START_S + 300)


LOG = EvalLog(
    status="success",
    created=datetime.fromtimestamp(int(START_S + 4), tz=UTC),
    task="sums",
    model="hf/local",
    subject="",
    samples_completed=None,
    samples_total=None,
    task_file="x/t.py",
    task_args={"epoch": 3, "few_shot": True, "name": "x", "more": [1]},
    model_args={"path": "/m"},
)
PATH = "/exp/run/logs/2026_sums.eval"


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
        "-T epoch=3 -T few_shot=true -T name=x -T more=1",
        "-M path=/m",
    ],
)
def test_what_agrees_can_be_its_own(options: str) -> None:
    for task in ("t.py", "t.py@sums", "x/t.py w.py", "package/sums", "tasks", ""):
        assert INSPECT_AI.could_be_of(run(f"inspect eval {task} {options}"), PATH, LOG)


@pytest.mark.parametrize(
    "line",
    [
        "t.py --log-dir other",
        "t.py --log-dir log",
        "t.py --model hf/other",
        "t.py@words",
        "words.py",
        "words.py@sums",
        "t.py -T epoch=4",
        "t.py -T few_shot=false",
        "t.py -T name=y",
        "t.py -T seed=1",
        "t.py -M path=/other",
    ],
)
def test_what_contradicts_cannot(line: str) -> None:
    assert not INSPECT_AI.could_be_of(run(f"inspect eval {line}"), PATH, LOG)


@pytest.mark.parametrize(("after_s", "can_be"), [(-30, False), (0, True), (300, True), (330, False)])
def test_the_eval_began_within_the_life_of_the_process(after_s: float, can_be: bool) -> None:
    log = replace(LOG, created=datetime.fromtimestamp(int(START_S + after_s), tz=UTC))
    assert INSPECT_AI.could_be_of(run("inspect eval t.py"), PATH, log) is can_be
    assert not INSPECT_AI.could_be_of(run("inspect eval t.py"), PATH, replace(LOG, created=None))


def test_a_process_that_runs_has_no_end_yet() -> None:
    later = replace(LOG, created=datetime.fromtimestamp(START_S + 9000, tz=UTC))
    assert INSPECT_AI.could_be_of(replace(run("inspect eval t.py"), ended_at=None), PATH, later)


def test_arguments_that_the_log_does_not_tell_contradict_nothing() -> None:
    assert INSPECT_AI.could_be_of(run("inspect eval t.py -T a=b"), PATH, replace(LOG, task_args=None))


RESULTS = replace(LOG, model_args={"pretrained": "/m", "seed": 3})


@pytest.mark.parametrize(
    ("options", "can_be"),
    [
        ("--output_path out", True),
        ("--output_path out/results.json", True),
        ("--output_path other", False),
        ("--model_args pretrained=/m,seed=3", True),
        ("--model_args pretrained=/m,seed=4", False),
        ("--tasks a_tag", True),
    ],
)
def test_results_of_lm_eval(options: str, can_be: bool) -> None:
    path = "/exp/run/out/results_2026-11-25T17-58-37.243692.json"
    assert LM_EVAL.could_be_of(run(f"lm_eval --model hf {options}"), path, RESULTS) is can_be
