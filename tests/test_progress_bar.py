"""Tests that long commands show their progress: in a terminal, on stderr, after half a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import Exp, ended
from terminal import Terminal

COUNT = 8


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    made = Exp(tmp_path)
    for number in range(COUNT):
        made.write_script(f"t{number}")
    return made


def shown(exp: Exp, *words: str, **environ: str) -> str:
    """What is written to the terminal, without the answer."""
    terminal = Terminal(words, env={**exp.slurm.environ, **environ}, cwd=exp.root, stdout=exp.root / "answer")
    terminal.end()
    return "\n".join(terminal.lines)


def test_a_slow_submission_shows_a_bar_and_its_answer_is_the_same(exp: Exp) -> None:
    exp.slurm.before("sbatch", "sleep 0.2\n")
    text = shown(exp, "submit", ".")
    assert "Submitting ━" in text
    assert f" {COUNT - 1}/{COUNT}" in text
    assert (exp.root / "answer").read_text().count("submitted r1/") == COUNT


def test_a_dry_run_shows_a_bar_for_its_queries_to_slurm(exp: Exp) -> None:
    for number, path in enumerate(sorted((exp.root / "r1" / "eval").iterdir())):
        path.write_text(f"#!/bin/sh\n#SBATCH --time={number + 1}\ntrue\n")
    exp.slurm.before("sbatch", "sleep 0.2\n")
    assert f" {COUNT - 1}/{COUNT}" in shown(exp, "submit", ".", "--dry-run")


def test_report_and_metrics_show_a_bar_for_their_seff_queries(exp: Exp) -> None:
    exp.register(**{f"r1_e{number}": str(number) for number in range(10, 20)})
    jobs = [ended(str(number)) for number in range(10, 20)]
    exp.slurm.show(jobs)
    for job in jobs:
        exp.slurm.measure(job)
    exp.slurm.before("seff", "sleep 0.2\n")
    text = shown(exp, "report", ".")
    assert "Measuring ━" in text
    assert "9/10" in text
    assert "Reading figures ━" in shown(exp, "metrics", *map(str, range(10, 20)))


@pytest.mark.parametrize("case", ["a pipe", "a dumb terminal"])
def test_otherwise_no_bar_is_shown(exp: Exp, case: str) -> None:
    exp.slurm.before("sbatch", "sleep 0.2\n")
    if case == "a pipe":
        argv = [sys.executable, "-m", "evalmon_agent", "submit", "."]
        done = subprocess.run(argv, env=exp.slurm.environ, cwd=exp.root, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert shown(exp, "submit", ".", TERM="dumb") == ""


def test_a_quick_command_imports_nothing_for_the_bar(exp: Exp) -> None:
    exp.register(r1_a="11")
    exp.slurm.show([])
    words = ["-X", "importtime", "-m", "evalmon_agent", "status", "."]
    done = subprocess.run(
        [sys.executable, *words], env=exp.slurm.environ, cwd=exp.root, capture_output=True, text=True, check=False
    )
    assert "evalmon_agent.cli.status_view" in done.stderr
    assert " rich" not in done.stderr
