"""Runs the real `evalmon run`, as evalmon's launcher does, in an environment like a Slurm job's."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from faults import wait_until

PYTHON = [sys.executable, "-E", "-P"]
RUN = [*PYTHON, "-m", "evalmon_agent", "run"]
HOOK = [*PYTHON, "-m", "evalmon_agent", "hook"]

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def less_often(value: Any, always: Container[Any]) -> Any:
    """A parameter value that is always tested if it is in `always`, otherwise only with --all."""
    return value if value in always else pytest.param(value, marks=pytest.mark.full)


def environ(**ours: str) -> dict[str, str]:
    """This environment without any job variable, with the given ones."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "EVALMON"))}
    return clean | ours


class Experiment:
    """EXP/evalmon, and the environment of job 123 in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.monitor = directory / "evalmon"
        self.monitor.mkdir(mode=0o700)
        self.jobs = self.monitor / "jobs"

    def environ(self, **more: str) -> dict[str, str]:
        return environ(SLURM_JOB_ID="123", SLURM_CLUSTER_NAME="test", EVALMON_DIR=str(self.monitor)) | more

    def report(self, job: str = "123") -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.jobs / f"{job}.json").read_text())
        return report

    def has_report(self, job: str = "123") -> bool:
        return (self.jobs / f"{job}.json").exists()

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return call([*RUN, *words], self.environ(**more))


def call(argv: list[str], environment: Mapping[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False} | options
    return subprocess.run(argv, env=dict(environment), **options)  # noqa: PLW1510 (check is among the options)


@contextmanager
def started(argv: list[str], environment: Mapping[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The process, in its own session; its remaining processes are killed in the end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen(argv, env=dict(environment), start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            for pid in session_of(process.pid):
                os.kill(pid, signal.SIGKILL)


def session_of(leader: int) -> list[int]:
    """Every living process of a session."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, session = stat_of(int(entry.name))[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(session) == leader and state != "Z":
                pids.append(int(entry.name))
    return pids


def stat_of(pid: int) -> list[str]:
    """State, parent, group, session, ... (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def settle(experiment: Experiment, run: int) -> tuple[int, int]:
    """Wait until the start is reported; then only the command and evalmon's helper process are running."""
    wait_until(lambda: experiment.has_report() and len(children_of(run)) == 2)
    command, helper = children_of(run)
    return command, helper
