"""Tests that status and report do not ask Slurm too often, and finish what no monitor job will."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from evalmon_agent.commands.report import report
from evalmon_agent.commands.status import status
from evalmon_agent.commands.stop import stop
from evalmon_agent.settings import Settings
from evalmon_agent.summary.records import Summary
from experiments import Exp, ended, pending, running

AGAIN = {"submitted": 1_700_001_000, "started": 1_700_001_060}


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    found.register(r1_a="11", r1_b="12")
    found.settings = Settings(poll_interval=60.0, seff_retry_delay=0.0)
    return found


def looks(exp: Exp, program: object = status) -> Summary:
    return program(exp.session())  # type: ignore[operator,no-any-return]


def an_hour_later(exp: Exp) -> None:
    """Pretend that the last poll was long ago."""
    path = exp.ours / "observer.json"
    beat = json.loads(path.read_text())
    path.write_text(json.dumps({**beat, "polled_at": beat["polled_at"] - 3600}))


def is_complete(exp: Exp) -> bool:
    return bool(exp.state()["completion"]["status"] == "complete")


@pytest.mark.survives("S14")
def test_slurm_is_asked_once_however_often_status_runs(exp: Exp) -> None:
    exp.slurm.show([running("11"), ended("12")])
    for _ in range(10):
        looks(exp)
        looks(exp, report)
    assert (1, 1) == (len(exp.slurm.calls("squeue")), len(exp.slurm.calls("sacct")))


@pytest.mark.survives("S14")
def test_slurm_is_asked_once_while_a_completion_job_is_about_to_finish(exp: Exp) -> None:
    exp.accept("", "70", what="completion")
    exp.slurm.show([ended("11"), ended("12"), pending("70")])
    for _ in range(10):
        looks(exp, report)
    assert (1, 1) == (len(exp.slurm.calls("squeue")), len(exp.slurm.calls("sacct")))
    assert not is_complete(exp)


@pytest.mark.survives("S14")
def test_a_working_sidecar_is_left_alone_and_a_lost_one_is_not_waited_for(exp: Exp) -> None:
    exp.accept("", "77", what="sidecar")
    exp.slurm.show([ended("11"), ended("12"), running("77")])
    for _ in range(3):
        looks(exp)
    assert exp.slurm.calls("seff") == []
    exp.slurm.show([ended("11"), ended("12")])
    an_hour_later(exp)
    looks(exp)
    assert is_complete(exp)


@pytest.mark.survives("F15", "S14")
def test_slurm_is_asked_less_often_while_it_does_not_answer(exp: Exp) -> None:
    exp.settings = Settings(poll_interval=0.1, alert_after=1)
    exp.slurm.fail("squeue", "Unable to contact slurm controller (connect failure)")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        looks(exp)
    # After two intervals without an answer each, doubled each time: 0.2, 0.2, 0.4, 0.8, 1.6 s.
    assert 2 <= len(exp.slurm.calls("squeue")) <= 6
    assert len(exp.blocks("ALERT")) == 1


@pytest.mark.survives("F20")
@pytest.mark.parametrize("program", [status, report])
@pytest.mark.parametrize("how", ["refused", "gone"])
def test_without_a_completion_job_the_next_command_finishes(exp: Exp, program: object, how: str) -> None:
    if how == "gone":
        exp.accept("", "70", what="completion")
    exp.slurm.show([ended("11"), ended("12", "FAILED")])
    for _ in range(3):
        assert looks(exp, program).verdicts["failed"] == 1
    assert (is_complete(exp), len(exp.blocks("ALL_COMPLETE")), len(exp.blocks("COMPUTE_METRICS"))) == (True, 1, 2)
    assert json.loads((exp.ours / "summary.json").read_text())["complete"]


@pytest.mark.survives("F18", "F20")
def test_an_eval_that_is_active_after_the_end_gets_its_own_completion_job(exp: Exp) -> None:
    exp.accept("", "70", what="completion")
    exp.slurm.show([ended("11"), ended("12", "NODE_FAIL")])
    looks(exp)
    assert is_complete(exp)
    # It was requeued; only its own report shows that.
    exp.report("12", "r1/b", restart=1, started_at=1_700_001_061.0)
    exp.slurm.show([ended("11"), running("12", **AGAIN)])
    for _ in range(3):
        an_hour_later(exp)
        assert looks(exp).verdicts["active"] == 1
    [submitted] = exp.slurm.calls("sbatch")
    assert "--dependency=afterany:12 " in submitted
    assert [block.splitlines()[1] for block in exp.blocks("COMPLETION_SUBMITTED")] == ["Job ID: 70", "Job ID: 1001"]
    exp.slurm.answer("squeue", "")
    over = ended("12", **AGAIN, ended=1_700_001_352)
    rows = (ended("11"), ended("12", "NODE_FAIL"), over)
    exp.slurm.answer("sacct", "".join(job.account_rows() for job in rows))
    (exp.slurm.directory / "queue" / "1001").unlink()
    an_hour_later(exp)
    looks(exp)
    assert (is_complete(exp), len(exp.blocks("ALL_COMPLETE"))) == (True, 2)


def test_after_stop_no_monitor_job_is_submitted_again(exp: Exp) -> None:
    exp.accept("", "70", what="completion")
    exp.slurm.show([ended("11"), ended("12", "NODE_FAIL")])
    looks(exp)
    exp.report("12", "r1/b", restart=1, started_at=1_700_001_061.0)
    exp.slurm.show([ended("11"), running("12", **AGAIN)])
    exp.observer().record()
    stop(exp.session())
    for _ in range(2):
        an_hour_later(exp)
        looks(exp)
    assert exp.slurm.calls("sbatch") == []


def test_a_refused_successor_is_not_tried_again_and_again(exp: Exp) -> None:
    exp.accept("", "70", what="completion")
    exp.slurm.show([ended("11"), ended("12", "NODE_FAIL")])
    looks(exp)
    exp.slurm.refuse("evalmon-completion", "sbatch: error: Access/permission denied")
    exp.report("12", "r1/b", restart=1, started_at=1_700_001_061.0)
    exp.slurm.show([ended("11"), running("12", **AGAIN)])
    for _ in range(4):
        an_hour_later(exp)
        looks(exp)
    assert len(exp.slurm.calls("sbatch")) == 1


@pytest.mark.survives("F10")
def test_after_a_lost_state_the_report_has_all_figures_and_the_log_nothing_twice(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12", "FAILED", exit_code="3:0")])
    before = looks(exp, report)
    assert [ev.memory_used_bytes for ev in before.evals] == [1572864 * 1024] * 2
    told = exp.news()
    (exp.ours / "state.json").unlink()
    an_hour_later(exp)
    again = looks(exp, report)
    assert [(ev.memory_used_bytes, ev.diagnosis) for ev in again.evals] == [
        (ev.memory_used_bytes, ev.diagnosis) for ev in before.evals
    ]
    assert exp.news() == told


def in_a_terminal(exp: Exp, *words: str, rows: int, columns: int = 100, **environ: str) -> list[str]:
    """The lines that `evalmon status` prints into a terminal of that size."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    env = {k: v for k, v in {**exp.slurm.environ, **environ}.items() if k not in {"COLUMNS", "LINES"}}
    argv = [sys.executable, "-m", "evalmon_agent", "status", str(exp.root), *words]
    with subprocess.Popen(argv, stdout=its, stderr=its, env=env):
        os.close(its)
        text = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(ours, 1 << 16):
                text += data
    os.close(ours)
    return text.decode().replace("\r", "").splitlines()


def test_in_a_terminal_running_and_failed_evals_are_shown_as_far_as_there_is_room(exp: Exp) -> None:
    names = [f"e{number:02}" for number in range(30)]
    exp.register(**{name: str(number) for number, name in enumerate(names, 100)})
    jobs = [pending(str(100 + number)) for number in range(30)]
    jobs[7], jobs[20] = running("107"), ended("120", "FAILED")
    exp.slurm.show(jobs)
    lines = in_a_terminal(exp, rows=10, columns=120, NO_COLOR="1")
    assert len(lines) == 9, lines
    assert lines[0].startswith("0 of 32 evals succeeded so far; 1 needs you: e20 ")
    assert lines[3].startswith("* e20 failed for an unknown reason")
    assert lines[-2].startswith("e07 ")
    assert lines[-1] == "(+31 more; --all shows every eval)"
    taller = in_a_terminal(exp, rows=14, columns=120, NO_COLOR="1")
    assert len(taller) <= 13, taller
    assert [line.split()[0] for line in taller[-3:-1]] == ["e07", "e20"]
    everything = in_a_terminal(exp, "--all", rows=10, NO_COLOR="1")
    assert [line.split()[0] for line in everything[-33:]] == ["r1/", "a", "b", *names]
    assert any("\x1b[36mrunning\x1b[0m" in line for line in in_a_terminal(exp, rows=10))
