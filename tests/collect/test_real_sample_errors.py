"""Tests the errors of samples in logs of the real inspect-ai: each kind is counted, in each log format."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalmon_agent.collect.eval_logs import read_log
from evalmon_agent.evidence.diagnosis.diagnose import AttemptEnd, diagnose
from evalmon_agent.evidence.result import EvalLog, SampleError, to_result
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.words.states import State

INSPECT = Path(sys.executable).parent / "inspect"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("inspect_ai") is None or not INSPECT.exists(), reason="inspect-ai is not installed"
)

TASK = """
import asyncio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import match
from inspect_ai.solver import solver

class RateLimitError(Exception):
    pass

@solver
def faulty():
    async def solve(state, generate):
        number = int(state.sample_id)
        if number % 5 == 1:
            raise RateLimitError(f"Error code: 429 - try again in {number}.5s, request req_011CSxYz9Ab{number}cD4")
        if number % 10 == 2:
            open(f"/nonexistent/run_{number}/x.json")
        if number % 20 == 3:
            raise ValueError(f"answer {number} has\\ntwo lines, see /tmp/run_{number}/x.json")
        await asyncio.sleep(PAUSE_S)
        state.output = ModelOutput.from_content("mockllm/model", "x")
        return state
    return solve

@task
def faults():
    samples = [Sample(id=number, input="q", target="x") for number in range(40)]
    return Task(dataset=MemoryDataset(samples), solver=faulty(), scorer=match())
"""
ERRORS = (
    SampleError("api-rate-limit", "RateLimitError: Error code: 429 - try again in Ns, request <id>", 8),
    SampleError("missing-file", "FileNotFoundError: [Errno 2] No such file or directory", 4),
    SampleError(None, "ValueError: answer N has two lines, see <path>/x.json", 2),
)
RUNS = {
    "eval": ["--no-fail-on-error"],
    "json": ["--no-fail-on-error", "--log-format", "json"],
    "tolerated": ["--fail-on-error=30"],
    "failed": ["--fail-on-error=3"],
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalLog]:
    """All at once: most of their time goes into importing inspect-ai."""
    folder = tmp_path_factory.mktemp("sample-errors")
    started = []
    for name, options in RUNS.items():
        (folder / name).mkdir()
        pause_s = 5 if name == "failed" else 0
        (folder / name / "faults.py").write_text(TASK.replace("PAUSE_S", str(pause_s)))
        argv = [str(INSPECT), "eval", "faults.py", "--model", "mockllm/model", "--display", "none", *options]
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder / name)}
        started.append(subprocess.Popen(argv, cwd=folder / name, env=environment, stdin=subprocess.DEVNULL))
    assert [process.wait(timeout=240) for process in started] == [0] * len(RUNS)
    return {name: only_log(folder / name / "logs") for name in RUNS}


def only_log(folder: Path) -> EvalLog:
    [path] = folder.iterdir()
    log = read_log(str(path), OwnedFiles(os.geteuid()))
    assert log is not None
    return log


@pytest.mark.parametrize("name", ["eval", "json", "tolerated"])
def test_the_errors_of_a_finished_eval_are_counted_by_kind(logs: dict[str, EvalLog], name: str) -> None:
    log = logs[name]
    assert (log.status, log.samples_completed, log.samples_failed, log.samples_total) == ("success", 26, 14, 40)
    assert log.sample_errors == ERRORS


def test_a_failed_eval_has_its_samples_errors_except_cancelled_ones(
    logs: dict[str, EvalLog],
) -> None:
    log = logs["failed"]
    assert (log.status, log.samples_completed) == ("error", 0)
    assert log.samples_failed == sum(error.samples for error in log.sample_errors)
    assert {error.error for error in log.sample_errors} <= {error.error for error in ERRORS}
    assert 3 <= (log.samples_failed or 0) <= 14


def test_the_diagnosis_of_a_finished_eval_says_why_its_samples_failed(logs: dict[str, EvalLog]) -> None:
    result = to_result(logs["eval"], known_by="process")
    diagnosis = diagnose(AttemptEnd(state=State.COMPLETED, exit_code=0, result=result))
    assert diagnosis is not None
    assert diagnosis.cause == "unfinished-samples"
    assert (diagnosis.evidence or "").startswith(
        "14 of 40 samples failed: 8 api-rate-limit (RateLimitError: Error code: 429 - try again in Ns, request <id>), "
        "4 missing-file (FileNotFoundError"
    )
