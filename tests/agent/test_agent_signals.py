"""Tests that signals reach the command exactly once, wherever they were sent."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_a_job import (
    RUN,
    Experiment,
    call,
    children_of,
    less_often,
    needs_strace,
    session_of,
    settle,
    started,
    stat_of,
)

from faults import wait_until

# Notes each signal as one byte, by a handler in C: a signal that comes twice is two bytes. Ends on SIGABRT.
RECORDER = """
import os, signal, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_APPEND)
signal.set_wakeup_fd(log)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT, signal.SIGCHLD}:
    signal.signal(number, lambda *heard: None)
os.write(log, b"\\0")
while True:
    time.sleep(60)
"""

ALL = sorted(
    set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT, signal.SIGCHLD, signal.SIGWINCH}
)
SOME = [signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN]
UNUSUAL = [signal.SIGRTMIN, signal.SIGRTMAX, signal.SIGXCPU]
ORDINARY = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]

# Longer than `run` waits for a broadcast to end.
SETTLED_S = 0.3


class Recorder:
    """A monitored command that records every signal it gets."""

    def __init__(self, experiment: Experiment, run: int, log: Path) -> None:
        self.run = run
        self.log = log
        wait_until(lambda: self.log.exists() and self.log.read_bytes()[:1] == b"\0")
        settle(experiment, run)

    def heard(self) -> list[int]:
        time.sleep(SETTLED_S)
        return list(self.log.read_bytes()[1:])


@pytest.fixture
def recorder(experiment: Experiment, tmp_path: Path) -> Iterator[Recorder]:
    argv = [*RUN, "--", sys.executable, "-c", RECORDER, str(tmp_path / "log")]
    with started(argv, experiment.environ(), stdout=None, stderr=None) as run:
        yield Recorder(experiment, run.pid, tmp_path / "log")


@pytest.mark.survives("F23")
def test_each_signal_sent_to_run_reaches_the_command_once(recorder: Recorder) -> None:
    """One at a time where the kernel drops pending ones: SIGCONT drops stop signals, and they drop it."""
    one_at_a_time = [signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU]
    for number in one_at_a_time:
        os.kill(recorder.run, number)
        assert recorder.heard()[-1] == number
    for number in set(ALL) - set(one_at_a_time):
        os.kill(recorder.run, number)
    wait_until(lambda: len(recorder.heard()) >= len(ALL), within_s=30)
    assert sorted(recorder.heard()) == ALL


@pytest.mark.parametrize("number", [less_often(number, SOME) for number in ORDINARY])
def test_a_signal_to_the_process_group_reaches_the_command_once(recorder: Recorder, number: int) -> None:
    for _ in range(3):
        os.killpg(recorder.run, number)
        assert recorder.heard()
    assert recorder.heard() == [number] * 3


@pytest.mark.parametrize("number", [less_often(number, SOME) for number in (*ORDINARY, *UNUSUAL)])
@pytest.mark.parametrize("pause_s", [0, 0.01])
@pytest.mark.parametrize("order", [sorted, lambda pids: sorted(pids, reverse=True)], ids=["parents", "children"])
def test_a_signal_to_every_process_of_the_job_reaches_the_command_once(
    recorder: Recorder, number: int, pause_s: float, order: Callable[[list[int]], list[int]]
) -> None:
    """Process by process, as proctrack/linuxproc does."""
    for pid in order(session_of(recorder.run)):
        os.kill(pid, number)
        time.sleep(pause_s)
    assert recorder.heard() == [number]


@pytest.mark.parametrize("pause_s", [0.05, SETTLED_S])
def test_a_signal_to_run_alone_soon_after_a_broadcast_is_passed_on(recorder: Recorder, pause_s: float) -> None:
    os.killpg(recorder.run, signal.SIGTERM)
    time.sleep(pause_s)
    os.kill(recorder.run, signal.SIGTERM)
    assert recorder.heard() == [signal.SIGTERM] * 2


def test_a_signal_to_the_helper_process_alone_is_not_passed_on(recorder: Recorder) -> None:
    helper = children_of(recorder.run)[1]
    os.kill(helper, signal.SIGTERM)
    wait_until(lambda: len(children_of(recorder.run)) == 2 and helper not in children_of(recorder.run))
    assert recorder.heard() == []
    os.kill(recorder.run, signal.SIGTERM)
    assert recorder.heard() == [signal.SIGTERM]


def test_a_command_in_its_own_group_gets_signals_sent_to_runs_group(experiment: Experiment, tmp_path: Path) -> None:
    own_group = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", own_group, sys.executable, "-c", RECORDER, str(tmp_path / "log")]
    with started([*RUN, "--", *command], experiment.environ(), stdout=None, stderr=None) as run:
        recorder = Recorder(experiment, run.pid, tmp_path / "log")
        os.killpg(run.pid, signal.SIGTERM)
        assert recorder.heard() == [signal.SIGTERM]


@needs_strace
def test_a_signal_before_the_command_is_started_is_not_lost(experiment: Experiment) -> None:
    """strace delays `run` right before the command is started."""
    hold = ["strace", "-o", "/dev/null", "-e", "trace=clone,clone3,vfork"]
    hold += ["-e", "inject=clone,clone3,vfork:delay_enter=1s:when=1"]
    with started([*hold, *RUN, "--", "sleep", "30"], experiment.environ(), stdout=None, stderr=None) as strace:
        wait_until(lambda: children_of(strace.pid) and blocks_everything(children_of(strace.pid)[0]))
        os.kill(children_of(strace.pid)[0], signal.SIGTERM)
        assert strace.wait(timeout=10) == -signal.SIGTERM
    command = experiment.report()["attempts"][0]["commands"][0]
    assert (command["program"], command["signal"]) == ("sleep", signal.SIGTERM)


def blocks_everything(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigBlk:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1 == 1


@pytest.mark.survives("F23")
def test_a_sigterm_at_any_time_of_the_start_ends_the_command_or_run(experiment: Experiment) -> None:
    for delay_ms in range(0, 60, 4):
        with started([*RUN, "--", "sleep", "30"], experiment.environ(), stdout=None, stderr=None) as run:
            time.sleep(delay_ms / 1000)
            run.terminate()
            assert run.wait(timeout=10) == -signal.SIGTERM
            assert session_of(run.pid) == []


def test_no_signal_ends_run_before_the_command(experiment: Experiment) -> None:
    command = "trap '' $(seq 1 64); echo ready; sleep 0.5; exit 3"
    with started([*RUN, "--", "bash", "-c", command], experiment.environ(), stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        for number in ALL:
            os.kill(run.pid, number)
        assert run.wait(timeout=20) == 3


# What glibc's posix_spawn leaves ignored in every child: two signals that glibc keeps for itself and sets up
# anew in each program that has threads (is_internal_signal in sysdeps/unix/sysv/linux/spawni.c).
OF_GLIBC = 1 << 31 | 1 << 32


def ignored_by_the_command(prefix: list[str], environment: dict[str, str]) -> tuple[int, int]:
    """The mask of ignored signals with and without `run`."""
    command = ["grep", "SigIgn", "/proc/self/status"]
    with_us = call([*prefix, *RUN, "--", *command], environment)
    without = call([*prefix, *command], environment)
    return int(with_us.stdout.split()[1], 16) & ~OF_GLIBC, int(without.stdout.split()[1], 16) & ~OF_GLIBC


@pytest.mark.parametrize("name", ["INT", "QUIT", "HUP", "USR1", "TSTP"])
def test_the_command_ignores_the_signals_that_run_was_started_to_ignore(experiment: Experiment, name: str) -> None:
    prefix = ["sh", "-c", f"trap '' {name}; exec \"$@\"", "sh"]
    with_us, without = ignored_by_the_command(prefix, experiment.environ())
    assert with_us == without == 1 << (signal.Signals[f"SIG{name}"] - 1)


@pytest.mark.parametrize("trap", ["", "trap '' PIPE;"])
def test_a_shells_child_has_the_shells_sigpipe_setting(experiment: Experiment, trap: str) -> None:
    prefix = ["sh", "-c", f'{trap} "$@"; exit $?', "sh"]
    with_us, without = ignored_by_the_command(prefix, experiment.environ())
    assert with_us == without == (1 << (signal.SIGPIPE - 1) if trap else 0)


def test_the_child_of_pythons_subprocess_has_the_default_sigpipe(experiment: Experiment) -> None:
    assert ignored_by_the_command([], experiment.environ()) == (0, 0)


def test_the_command_gets_runs_signal_mask(experiment: Experiment) -> None:
    command = ["grep", "SigBlk", "/proc/self/status"]
    masking = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [10, 40])"
    masking += "; os.execv(sys.argv[1], sys.argv[1:])"
    with_us = call([sys.executable, "-c", masking, *RUN, "--", *command], experiment.environ())
    assert with_us.stdout == "SigBlk:\t0000008000000200\n"


@contextmanager
def on_a_terminal(argv: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process as leader of a session with a terminal; this process's end of the terminal."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        argv,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=take_terminal,  # noqa: PLW1509 (no threads here)
    ) as process:
        os.close(theirs)
        try:
            yield process, ours
        finally:
            for pid in session_of(process.pid):
                os.kill(pid, signal.SIGKILL)
            os.close(ours)


@pytest.mark.parametrize(("key", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
def test_a_key_on_the_terminal_reaches_the_command_once(
    experiment: Experiment, tmp_path: Path, key: bytes, number: int
) -> None:
    argv = [*RUN, "--", sys.executable, "-c", RECORDER, str(tmp_path / "log")]
    with on_a_terminal(argv, experiment.environ()) as (run, terminal):
        recorder = Recorder(experiment, run.pid, tmp_path / "log")
        os.write(terminal, key)
        assert recorder.heard() == [number]


def test_ctrl_z_stops_and_fg_continues_as_without_run(experiment: Experiment, tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    with on_a_terminal(["bash", "--norc", "-i"], experiment.environ(PS1="$ ")) as (shell, terminal):
        os.write(terminal, b"exec 2>/dev/null\n")
        command = f"while :; do echo >> {ticks}; sleep 0.02; done"
        os.write(terminal, f"{' '.join(RUN)} -- sh -c '{command}'\n".encode())
        wait_until(lambda: ticks.exists() and experiment.has_report())
        (run,) = children_of(shell.pid)
        os.write(terminal, b"\x1a")
        wait_until(lambda: stat_of(run)[0] == "T" and stat_of(children_of(run)[0])[0] == "T")
        os.write(terminal, b"fg\n")
        seen = ticks.stat().st_size
        wait_until(lambda: ticks.stat().st_size > seen + 3)
        os.write(terminal, b"\x03")
        wait_until(lambda: not children_of(shell.pid))


def test_a_command_stopped_and_continued_by_pid_continues(experiment: Experiment) -> None:
    with started([*RUN, "--", "sh", "-c", "sleep 0.5; exit 4"], experiment.environ(), stdout=None) as run:
        command, _ = settle(experiment, run.pid)
        os.kill(command, signal.SIGSTOP)
        wait_until(lambda: stat_of(command)[0] == "T")
        wait_until(lambda: stat_of(run.pid)[0] == "S")
        os.kill(command, signal.SIGCONT)
        assert run.wait(timeout=10) == 4


def test_many_broadcasts_do_no_harm(recorder: Recorder) -> None:
    for _ in range(200):
        os.killpg(recorder.run, signal.SIGUSR1)
    heard = recorder.heard()
    assert 1 <= len(heard) <= 210
    os.kill(recorder.run, signal.SIGABRT)
    wait_until(lambda: not session_of(recorder.run) or stat_of(recorder.run)[0] == "Z")


WAITING = """
import signal
from evalmon_agent.agent.signals import wait_for_signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("waits", flush=True)
print(wait_for_signal(frozenset({signal.SIGTERM}), 0.5), wait_for_signal(frozenset({signal.SIGTERM}), 0.5))
"""


@pytest.mark.parametrize(("while_stopped", "told"), [([], {"None"}), ([signal.SIGTERM], {"None", "15"})])
def test_a_wait_that_was_over_while_the_process_was_stopped_invents_no_signal(
    while_stopped: list[int], told: set[str]
) -> None:
    """`scontrol suspend` stops a job's processes for any time."""
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for number in (signal.SIGSTOP, *while_stopped):
            process.send_signal(number)
        time.sleep(0.7)
        process.send_signal(signal.SIGCONT)
        assert set(process.stdout.read().split()) == told
