"""Tests which file is named when Slurm could not open a file to start a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalmon_agent.collect.attempt_files import Outputs, unopened_file
from evalmon_agent.evidence.diagnosis.diagnose import UnopenedFile
from evalmon_agent.slurm.client import Slurm
from fake_slurm import FakeSlurm

NOT_THERE = "No such file or directory"


@pytest.fixture
def fake(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm")


def ask(fake: FakeSlurm, outputs: Outputs) -> UnopenedFile:
    return unopened_file(outputs, Slurm(fake.environ), "7")


def test_the_scripts_options_are_enough_if_they_show_the_problem(fake: FakeSlurm, tmp_path: Path) -> None:
    outputs = Outputs(f"{tmp_path}/slurm-7.out", f"{tmp_path}/errs/7.err")
    assert ask(fake, outputs) == UnopenedFile("output", f"{tmp_path}/errs", NOT_THERE)
    assert fake.calls("scontrol") == []


def test_otherwise_slurm_is_asked(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.answer("scontrol", f"JobId=7 JobName=x\n   StdErr=\n   StdIn=/dev/null\n   StdOut={tmp_path}/logs/7.out\n")
    assert ask(fake, Outputs()) == UnopenedFile("output", f"{tmp_path}/logs", NOT_THERE)
    fake.answer("scontrol", f"JobId=7 JobName=x\n   StdErr=\n   StdIn={tmp_path}/in\n   StdOut={tmp_path}/7.out\n")
    assert ask(fake, Outputs()) == UnopenedFile("input", f"{tmp_path}/in", "cannot be read here")


def test_the_directory_is_named_if_no_problem_can_be_seen_from_here(fake: FakeSlurm, tmp_path: Path) -> None:
    fake.answer("scontrol", f"JobId=7 JobName=x\n   StdErr=\n   StdIn=/dev/null\n   StdOut={tmp_path}/7.out\n")
    assert ask(fake, Outputs()) == UnopenedFile("output", str(tmp_path))
    fake.fail("scontrol", "slurm_load_jobs error: Invalid job id specified")
    assert ask(fake, Outputs(f"{tmp_path}/7.out")) == UnopenedFile("output", str(tmp_path))
    assert ask(fake, Outputs()) == UnopenedFile()
