"""An eval among the job's processes is seen, whoever started it, and only its name goes on record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from in_a_job import RUN, Experiment

from evalmon_agent.agent.sampling.eval_finder import program_in
from evalmon_agent.evidence.kinds import expects_log


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "eval", "t.py"],
        ["/env/bin/python3", "/env/bin/inspect", "eval-set", "t.py"],
        ["python", "-m", "inspect_ai", "eval", "t.py"],
        ["srun", "--ntasks=1", "inspect", "eval-retry", "logs"],
    ],
)
def test_these_are_evals(words: list[str]) -> None:
    assert program_in("\0".join([*words, ""]).encode()) == "inspect"
    assert expects_log("", [program_in("\0".join(words).encode())])


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "view"],
        ["python", "train.py", "--then", "-x", "-y", "inspect", "eval"],
        ["vim", "inspect"],
        ["bash", "-c", "inspect eval t.py"],
        [""],
        [],
    ],
)
def test_these_are_none(words: list[str]) -> None:
    assert program_in("\0".join(words).encode()) == ""


def test_any_bytes_are_survived() -> None:
    assert program_in(bytes(range(256)) * 20) == ""


@pytest.mark.survives("S11")
def test_an_eval_below_a_wrapper_is_on_record_without_its_arguments(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path)
    inspect = tmp_path / "inspect"
    inspect.write_text("import time; time.sleep(1.7)\n")
    wrapper = tmp_path / "wrapper.sh"
    wrapper.write_text(f"#!/bin/sh\nsleep 0.3\n{sys.executable} {inspect} eval t.py -M api_key=sesame\ntrue\n")
    wrapper.chmod(0o755)
    argv = [*RUN, "--output-dir", str(tmp_path / "out"), "--sample-interval", "1", "--", str(wrapper)]
    subprocess.run(argv, env=experiment.environ(), check=True, timeout=60)
    [attempt] = experiment.report()["attempts"]
    assert attempt["sampler"]["eval_seen"] == "inspect"
    assert "sesame" not in json.dumps(experiment.report())
