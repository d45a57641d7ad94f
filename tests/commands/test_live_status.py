"""Tests `status --watch`: a bar of samples in a terminal, lines in a pipe; Ctrl-C ends only the view."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import Exp, ended, record_script, running
from terminal import HIDE_CURSOR, SHOW_CURSOR, Terminal
from zips import Member, zip_of


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    made = Exp(tmp_path)
    made.register(r1_a="11", r1_b="12", r1_c="13")
    made.slurm.show([running("11"), running("12"), running("13")])
    (made.root / "evalmon.yaml").write_text("poll_interval: 0.5\n")
    return made


def has_done(exp: Exp, job_id: str, name: str, done: int, total: int) -> None:
    """The job's own report, its script, and what inspect-ai would have written so far."""
    folder, now = exp.root / "logs" / job_id, time.time()
    record_script(exp.experiment, f"{int(job_id):016x}", str(exp.root / f"{name}.slurm"), "#!/bin/sh\ninspect eval\n")
    program = {"kind": "inspect-ai", "started_at": now - 55, "cwd": "/", "options": {"log-dir": [str(folder)]}}
    log = {"name": "a.eval", "path": str(folder / "a.eval"), "known_by": ["line"]}
    program |= {"pid": int(job_id), "start_ticks": 1, "wrote": [log]}
    own = {"programs": [program], "commands": [{"witness": {"by": "cgroup"}, "elapsed_s": None}]}
    exp.report(job_id, name, started_at=now - 60, **own)
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - 50))
    spec = {"created": created, "task": "t", "model": "m", "dataset": {"samples": total}, "config": {"epochs": 1}}
    start = json.dumps({"version": 2, "eval": spec, "plan": {}}).encode()
    samples = [Member(f"samples/{number}_epoch_1.json", b"{}") for number in range(done)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.eval").write_bytes(zip_of([Member("_journal/start.json", start), *samples]))


def watched(exp: Exp, **environ: str) -> Terminal:
    return Terminal(["status", "--watch", "."], env={**exp.slurm.environ, **environ}, cwd=exp.root)


def test_samples_are_shown_of_the_running_evals_where_they_are_known(exp: Exp) -> None:
    has_done(exp, "11", "r1/a", 30, 100)
    has_done(exp, "12", "r1/b", 5, 20)
    terminal = watched(exp)
    assert terminal.shows("in 2 of 3 running evals", within_s=20), terminal.text
    [bar] = [line for line in terminal.lines if line.startswith("Samples ")][:1]
    assert "━" in bar
    assert " 35/120 " in bar
    has_done(exp, "11", "r1/a", 60, 100)
    assert terminal.shows(" 65/120 ")
    exp.slurm.show([ended("11"), ended("12"), ended("13", "FAILED")])
    assert terminal.end() == 1
    assert terminal.text.rstrip().endswith(SHOW_CURSOR)


def test_without_known_samples_there_is_no_bar_and_ctrl_c_ends_the_view_in_one_line(exp: Exp) -> None:
    terminal = watched(exp, NO_COLOR="1")
    assert terminal.shows("3 running")
    assert HIDE_CURSOR in terminal.text
    time.sleep(0.5)
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert "Samples" not in terminal.text
    assert terminal.text.count("Traceback") == 0
    assert terminal.lines[-1] == "evalmon: interrupted: evals keep running; evalmon status --watch shows them again"
    assert terminal.text.rfind(SHOW_CURSOR) > terminal.text.rfind(HIDE_CURSOR)
    assert "\x1b[3" not in terminal.text  # no colour
    assert exp.slurm.calls("scancel") == []


def test_in_a_pipe_each_change_is_a_line_and_the_table_is_at_the_end(exp: Exp) -> None:
    argv = [sys.executable, "-m", "evalmon_agent", "status", "--watch", "."]
    with subprocess.Popen(argv, env=exp.slurm.environ, cwd=exp.root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0 of 3 evals succeeded so far; 3 running\n"
        exp.slurm.show([ended("11"), ended("12"), ended("13")])
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert sum(line == "All 3 evals succeeded" for line in lines) == 1
    assert sum(line.startswith("r1/") for line in lines) == 3
    assert not any("\x1b" in line for line in lines)


def test_a_terminal_that_cannot_move_its_cursor_gets_the_table_at_the_end(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12"), ended("13")])
    terminal = watched(exp, TERM="dumb")
    assert terminal.end() == 0
    assert (terminal.text.count("All 3 evals succeeded"), terminal.text.count("r1/")) == (1, 3)


def test_the_table_stands_once_in_a_pipe_that_is_taken_for_a_terminal(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12"), ended("13")])
    argv = [sys.executable, "-m", "evalmon_agent", "status", "--watch", "."]
    env = {**exp.slurm.environ, "FORCE_COLOR": "1", "TERM": "xterm"}
    text = subprocess.run(argv, env=env, cwd=exp.root, capture_output=True, text=True, check=True).stdout
    assert text.rpartition(SHOW_CURSOR)[2].strip() == ""
