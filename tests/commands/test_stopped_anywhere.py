"""Tests that HUP, INT and TERM, twice, at any step of a monitor job leave complete blocks and no process behind."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

import faults
from evalmon_agent.commands.complete import complete
from evalmon_agent.commands.sidecar import Sidecar
from evalmon_agent.errors import StoppedError
from evalmon_agent.session import StopSignals
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from experiments import Exp, ended, running
from faults import Point

pytestmark = [pytest.mark.survives("F23"), faults.needs_strace]

PAIRS = [("TERM", "TERM"), ("INT", "HUP"), ("HUP", "INT"), ("TERM", "INT")]
GRACE_S = 5.0
STEPS = f"{faults.CALLS},read,pread64,select,pselect6,wait4,waitid,vfork,kill,newfstatat,getdents64"
JOBS = [ended("11"), ended("12", "FAILED", exit_code="3:0")]


def new(directory: Path) -> Exp:
    exp = Exp(directory)
    exp.settings = Settings(poll_interval=0.05, seff_retry_delay=0.0)
    exp.register(r1_a="11", r1_b="12")
    exp.slurm.show([running("11"), running("12")])
    exp.observer().observe_once(at_least_s=0)
    exp.slurm.show(JOBS)
    exp.slurm.measure(JOBS[0])
    return exp


def run_sidecar(exp: Exp) -> None:
    Sidecar(exp.session(environ={"SLURM_JOB_ID": "77"}, slurm=Slurm(exp.slurm.environ))).run()


def run_completion(exp: Exp) -> None:
    stop = StopSignals()
    stop.install()
    slurm = Slurm(exp.slurm.environ, stopped=stop.is_set)
    try:
        complete(exp.session(environ={"SLURM_JOB_ID": "78"}, slurm=slurm), sleep=stop.pause)
    except StoppedError:
        assert stop.is_set()


BODIES: dict[str, Callable[[Exp], None]] = {"sidecar": run_sidecar, "completion": run_completion}


def leaves_nobody(body: Callable[[Exp], None], exp: Exp) -> None:
    """The main program; afterwards this process has no child, running or zombie."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    body(exp)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def stop_everywhere(directory: Path, body: Callable[[Exp], None], *, step: int) -> int:
    whole = new(directory / "whole")
    points = faults.points(lambda: leaves_nobody(body, whole), directory / "trace", calls=STEPS)
    expected = whole.transitions()
    assert len(expected) == 4
    pairs = cycle(PAIRS)
    for number, (at, (first, second)) in enumerate(zip(range(0, len(points), step), pairs, strict=False)):
        exp = new(directory / str(number))
        (call, nth), (other, mth) = points[at], next_of_another_call(points, at)
        inject = ["-e", f"inject={call}:signal={first}:when={nth}", "-e", f"inject={other}:signal={second}:when={mth}"]
        pid = faults.forked(lambda exp=exp: leaves_nobody(body, exp))  # type: ignore[misc]
        with faults.traced(pid, "-o", "/dev/null", "-e", f"trace={call},{other}", *inject):
            began = time.monotonic()
            status = faults.ended(pid)
            took_s = time.monotonic() - began
        where = f"{first} at {call} {nth}, {second} at {other} {mth}"
        # Until it handles signals, it dies of one as any program does.
        assert status == 0 or (-status in {1, 2, 15} and not exp.blocks("MONITOR_STARTED")), where
        assert took_s < GRACE_S, where
        assert len(exp.blocks("MONITOR_STOPPED")) == len(exp.blocks("MONITOR_STARTED")), where
        exp.observe_to_the_end()
        assert sorted(exp.transitions()) == sorted(expected), where
        assert len(exp.blocks("ALL_COMPLETE")) == 1, where
        assert len(exp.blocks("COMPUTE_METRICS")) == 2, where
        shutil.rmtree(exp.root.parent)
    return len(points[::step])


def next_of_another_call(points: list[Point], at: int) -> Point:
    """Where the second signal is sent: strace sends one at each call of that number."""
    return next((point for point in points[at + 1 :] if point[0] != points[at][0]), ("exit_group", 1))


@pytest.mark.parametrize("body", BODIES)
def test_two_signals_at_a_step_leave_complete_blocks_and_no_child(tmp_path: Path, body: str) -> None:
    assert stop_everywhere(tmp_path, BODIES[body], step=53) > 5


@pytest.mark.full
@pytest.mark.parametrize("body", BODIES)
def test_two_signals_at_any_step_leave_complete_blocks_and_no_child(tmp_path: Path, body: str) -> None:
    assert stop_everywhere(tmp_path, BODIES[body], step=1) > 200
