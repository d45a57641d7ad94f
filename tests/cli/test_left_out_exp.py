"""Tests that without EXP, the nearest experiment at or above the working directory is used and named on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import Exp


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    return Exp(tmp_path / "study")


def evalmon(exp: Exp, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return exp.evalmon(*words, cwd=cwd, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


@pytest.mark.parametrize("command", ["status", "report"])
def test_the_nearest_experiment_is_used_and_named(exp: Exp, command: str) -> None:
    exp.register(r1_a="11")
    below = exp.root / "r1" / "eval"
    below.mkdir(parents=True, exist_ok=True)
    for words, cwd in [((), below), ((str(exp.root),), Path("/"))]:
        done = evalmon(exp, command, *words, cwd=cwd)
        assert done.returncode == 3, done
        assert (f"experiment: {exp.root}\n" in done.stderr) == (words == ())


def test_without_an_experiment_the_user_is_asked_to_name_one(exp: Exp, tmp_path: Path) -> None:
    for words in (("status",), ("cancel", "r1/a"), ("logs", "r1/a"), ("submit",)):
        done = evalmon(exp, *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert "directory, EXP" in done.stderr


def test_the_first_argument_is_exp_only_if_it_is_an_experiments_directory(exp: Exp, tmp_path: Path) -> None:
    exp.register(r1_a="11", r1_b="12")
    (exp.root / "r1").mkdir(exist_ok=True)
    for words, cwd in [(("r1/a", "r1/b"), exp.root), ((str(exp.root), "r1/a", "r1/b"), tmp_path)]:
        done = evalmon(exp, "cancel", *words, cwd=cwd)
        assert (done.returncode, done.stdout.startswith("nothing to cancel")) == (0, True), done
    missing = evalmon(exp, "drop", str(exp.root), cwd=tmp_path)
    assert (missing.returncode, "Missing argument 'NAME'" in missing.stderr) == (2, True)
    several = evalmon(exp, "logs", "r1/a", "r1/b", cwd=exp.root)
    assert (several.returncode, "r1/a is not an experiment's directory" in several.stderr) == (2, True)


def test_submit_may_omit_exp_only_in_the_experiments_own_directory(exp: Exp) -> None:
    exp.register(r1_a="11")
    folder = exp.root / "r2" / "eval"
    folder.mkdir(parents=True)
    (folder / "x_epoch0.slurm").write_text("#!/bin/sh\n#SBATCH --time=5\ntrue\n")
    below = evalmon(exp, "submit", "x_epoch0.slurm", "--dry-run", cwd=folder)
    assert below.returncode == 2, below
    here = evalmon(exp, "submit", "r2/eval/x_epoch0.slurm", "--dry-run", cwd=exp.root)
    assert (here.returncode, "r2/x/epoch0" in here.stdout) == (0, True), here
    assert f"experiment: {exp.root}\n" in here.stderr


def test_a_mistyped_name_gets_a_suggestion(exp: Exp) -> None:
    exp.register(r1_abc="11")
    assert "did you mean status?" in evalmon(exp, "statsu", cwd=exp.root).stderr
    assert "did you mean r1/abc?" in evalmon(exp, "drop", "r1/abd", cwd=exp.root).stderr
    (exp.root / "evalmon.yaml").write_text("poll_intervall: 60\n")
    assert "did you mean poll_interval?" in evalmon(exp, "submit", cwd=exp.root).stderr


def test_the_shell_completes_names(exp: Exp) -> None:
    exp.register(r1_a="11", r1_b="12", r2_a="13")
    exp.observer().record()
    script = {"_EVALMON_COMPLETE": "bash_complete", "COMP_WORDS": "evalmon logs r1/", "COMP_CWORD": "2"}
    argv = [sys.executable, "-m", "evalmon_agent"]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**exp.slurm.environ, **script}, cwd=exp.root, check=False
    )
    assert done.stdout.splitlines() == ["plain,r1/a", "plain,r1/b", "dir,r1/"]


def test_status_shows_only_the_named_evals(exp: Exp) -> None:
    exp.register(r1_a="11", r1_b="12", r2_a="13")
    done = evalmon(exp, "status", "--name", "r1/*", cwd=exp.root)
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["r1/a", "r1/b"]
    assert done.stdout.startswith("0 of 3 evals succeeded so far")
    unknown = evalmon(exp, "status", "--name", "r9/*", cwd=exp.root)
    assert (unknown.returncode, "no eval is called r9/*" in unknown.stderr) == (2, True)
