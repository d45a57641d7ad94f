"""Tests that `evalmon run` ends exactly as the command ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from in_a_job import RUN, Experiment, call, environ, less_often, session_of, settle, started

import as_root
from faults import wait_until

SOME_DEADLY = [1, 2, 6, 9, 11, 13, 15, signal.SIGRTMIN]
DEADLY = sorted(
    set(signal.valid_signals())
    - {
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
)


SOME_STATUSES = [0, 1, 2, 3, 126, 127, 128, 130, 137, 143, 200, 255]


@pytest.mark.parametrize("statuses", [SOME_STATUSES, pytest.param(range(256), marks=pytest.mark.full)], ids=len)
def test_every_exit_status_of_the_command_is_passed_on(experiment: Experiment, statuses: Sequence[int]) -> None:
    got = {status: experiment.run("--", "sh", "-c", f"exit {status}").returncode for status in statuses}
    assert got == {status: status for status in statuses}


@pytest.mark.parametrize("number", [less_often(number, SOME_DEADLY) for number in DEADLY])
def test_run_dies_of_the_same_signal_as_the_command(experiment: Experiment, number: int) -> None:
    done = experiment.run("--", sys.executable, "-c", f"import os, signal; os.kill(os.getpid(), {int(number)})")
    expected = subprocess.run(
        [sys.executable, "-c", f"import os, signal; os.kill(os.getpid(), {int(number)})"], check=False
    )
    assert done.returncode == expected.returncode
    command = experiment.report()["attempts"][0]["commands"][0]
    if expected.returncode < 0:
        assert (command["exit_code"], command["signal"]) == (None, number)


def test_a_shells_128_plus_n_stays_an_exit_status(experiment: Experiment) -> None:
    assert experiment.run("--", "sh", "-c", "exit 143").returncode == 143


@pytest.mark.skipif(
    Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")), reason="cores go elsewhere here"
)
def test_only_the_command_dumps_core(experiment: Experiment, tmp_path: Path) -> None:
    where = tmp_path / "cwd"
    where.mkdir()
    argv = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *RUN, "--", "sh", "-c", "ulimit -c; kill -SEGV $$"]
    done = call(argv, experiment.environ(), cwd=where)
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "unlimited\n")
    assert len(list(where.iterdir())) == 1


def test_no_core_file_where_the_command_may_not_write_one(experiment: Experiment, tmp_path: Path) -> None:
    where = tmp_path / "cwd"
    where.mkdir()
    command = ["sh", "-c", "ulimit -S -c 0; kill -ABRT $$"]
    argv = ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *RUN, "--", *command]
    assert call(argv, experiment.environ(), cwd=where).returncode == -signal.SIGABRT
    assert list(where.iterdir()) == []


def test_processes_that_the_command_leaves_behind_are_not_waited_for(experiment: Experiment) -> None:
    before = time.monotonic()
    with started([*RUN, "--", "sh", "-c", "sleep 30 & exit 5"], experiment.environ(), stdout=None, stderr=None) as run:
        assert run.wait(timeout=10) == 5
        assert time.monotonic() - before < 5


def test_readers_of_the_output_do_not_wait_for_run(experiment: Experiment) -> None:
    """A command that closes its output continues without its reader; so must `run`."""
    command = ["sh", "-c", "echo said; exec >&- 2>&- <&-; sleep 30"]
    with started([*RUN, "--", *command], experiment.environ()) as run:
        assert run.stdout is not None
        before = time.monotonic()
        assert run.stdout.read() == "said\n"
        assert time.monotonic() - before < 5
        assert run.poll() is None


def test_no_process_of_evalmon_is_left_when_the_command_has_ended(experiment: Experiment) -> None:
    with started([*RUN, "--", "true"], experiment.environ()) as run:
        run.wait(timeout=10)
        assert session_of(run.pid) == []


def test_no_process_of_evalmon_is_left_when_run_is_killed(experiment: Experiment) -> None:
    with started([*RUN, "--", "sleep", "30"], experiment.environ(), stdout=None, stderr=None) as run:
        settle(experiment, run.pid)
        run.kill()
        run.wait(timeout=10)
        wait_until(lambda: len(session_of(run.pid)) == 1)
        (left,) = session_of(run.pid)
        assert Path(f"/proc/{left}/comm").read_text() == "sleep\n"


@as_root.needs_root
def test_as_pid_1_of_a_container_run_ends_with_128_plus_the_signal() -> None:
    def as_pid_1(*words: str) -> int:
        unshare = ("--pid", "--fork", "--kill-child")
        return call(as_root.in_namespace(":", words=words, environ=environ(), unshare=unshare), environ()).returncode

    if as_pid_1("true"):
        pytest.skip("needs the right to make a pid namespace")
    assert as_pid_1(*RUN, "--", "sh", "-c", "kill -TERM $$") == 128 + signal.SIGTERM


def test_the_working_directory_may_be_gone(experiment: Experiment, tmp_path: Path) -> None:
    where = tmp_path / "gone"
    where.mkdir()
    script = f'cd {where}; rmdir {where}; exec "$@"'
    done = call(["sh", "-c", script, "sh", *RUN, "--", "sh", "-c", "exit 9"], experiment.environ())
    assert done.returncode == 9
    assert os.path.exists(experiment.jobs / "123.json")
