"""Tests the warnings about output paths that Slurm will not be able to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalmon_agent.slurm.client import Slurm
from evalmon_agent.submission.plan import Script, read_script
from evalmon_agent.submitting.preview import output_warnings
from fake_slurm import FakeSlurm


@pytest.fixture
def fake(tmp_path: Path) -> FakeSlurm:
    found = FakeSlurm(tmp_path / "slurm")
    found.answer("version", "slurm-wlm 22.05.8\n")
    return found


def script(folder: Path, name: str, *options: str) -> Script:
    head = "".join(f"#SBATCH {option}\n" for option in options)
    return read_script(str(folder / name), f"#!/bin/bash\n{head}true\n".encode())


def warned(fake: FakeSlurm, *scripts: Script, **env: str) -> list[str]:
    return output_warnings(scripts, Slurm(fake.environ), {**fake.environ, **env})


def test_a_missing_directory_is_reported_once_with_the_command_to_run(fake: FakeSlurm, tmp_path: Path) -> None:
    scripts = [script(tmp_path, f"{n}.slurm", "-o logs/%j.out", "-e logs/%j.err") for n in "abc"]
    [only] = warned(fake, *scripts)
    assert only.startswith(f"{tmp_path}/a.slurm and 2 more: the output goes to {tmp_path}/logs (No such file or dir")
    assert only.endswith(f"so Slurm cannot start the job; run: mkdir -p {tmp_path}/logs")
    (tmp_path / "logs").mkdir()
    assert warned(fake, *scripts) == []


def test_since_slurm_23_02_a_missing_directory_is_no_problem(fake: FakeSlurm, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing, impossible = script(tmp_path, "a", "-o logs/%j.out"), script(tmp_path, "b", "-o file/logs/%j.out")
    assert len(warned(fake, missing, impossible)) == 2
    fake.answer("version", "slurm 23.02.0\n")
    [only] = warned(fake, missing, impossible)
    assert f"goes to {tmp_path}/file/logs (Not a directory), so Slurm cannot start the job" in only


def test_no_warning_is_printed_for_writable_or_unknown_paths(fake: FakeSlurm, tmp_path: Path) -> None:
    good = [script(tmp_path, "a"), script(tmp_path, "b", "-o /dev/null"), script(tmp_path, "c", "-o logs-%j/out")]
    assert warned(fake, *good) == []
    assert fake.calls("sbatch") == []


def test_the_environment_takes_precedence_over_the_script(fake: FakeSlurm, tmp_path: Path) -> None:
    bad, good = script(tmp_path, "a", "-o logs/out"), script(tmp_path, "b")
    assert warned(fake, bad, SBATCH_OUTPUT="/dev/null") == []
    assert len(warned(fake, good, SBATCH_ERROR="logs/err")) == 1
