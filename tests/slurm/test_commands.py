"""Tests that programs which hang, flood, fork or die give an answer in time and leave nothing behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalmon_agent.errors import StoppedError
from evalmon_agent.slurm.commands import Finished, run
from faults import lives, wait_until

PATH = {"PATH": os.defpath}
TIMEOUT_S = 0.3


def sh(script: str, **more: object) -> Finished:
    return run(["sh", "-c", script], **{"timeout_s": TIMEOUT_S, "env": PATH, **more})  # type: ignore[arg-type]


def pids_in(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


def test_output_and_errors_are_returned() -> None:
    done = sh("echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr, done.ok) == (3, "out\n", "err\n", False)
    assert sh("true").ok


def test_a_program_gets_only_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    assert "canary" not in sh("env").stdout


@pytest.mark.survives("F14")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param("trap '' TERM INT HUP; echo $$ > pids; while :; do sleep 0.1; done", id="ignores TERM"),
        pytest.param("sleep 60 & echo $$ $! > pids; wait", id="waits for a grandchild"),
        pytest.param("exec >&- 2>&-; echo $$ > pids; sleep 60", id="closes its output and hangs"),
        pytest.param("echo $$ > pids; setsid sh -c 'echo $$ >> pids; sleep 60'", id="hangs below another session"),
    ],
)
def test_a_hanging_program_is_killed_in_time_with_all_its_children(script: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = sh(script, cwd=str(tmp_path))
    assert time.monotonic() - began < TIMEOUT_S + 1
    assert done.timed_out
    assert not done.ok
    wait_until(lambda: not [pid for pid in pids_in(tmp_path / "pids") if lives(pid)])


@pytest.mark.survives("F14")
@pytest.mark.parametrize(
    "fork",
    [
        pytest.param("sleep 60 & echo $! > pids", id="in its group"),
        pytest.param("setsid sh -c 'echo $$ > pids; sleep 60' & while ! [ -s pids ]; do :; done", id="by setsid"),
        pytest.param(
            "setsid sh -c 'setsid sleep 60 & echo $$ $! > pids; sleep 60' & while ! [ -s pids ]; do :; done",
            id="by setsid twice",
        ),
    ],
)
@pytest.mark.parametrize("pipe", ["", "exec >/dev/null 2>&1; "], ids=["keeps the pipe", "lets the pipe go"])
def test_a_grandchild_left_behind_is_killed(fork: str, pipe: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = sh(f"echo answer; {pipe}{fork}", cwd=str(tmp_path))
    assert time.monotonic() - began < TIMEOUT_S + 1
    assert done.stdout == "answer\n"
    assert done.timed_out == (not pipe)
    wait_until(lambda: not [pid for pid in pids_in(tmp_path / "pids") if lives(pid)])


@pytest.mark.survives("F14")
def test_other_children_of_this_process_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        sh("setsid sleep 60 &")
        assert other.poll() is None
        other.kill()


@pytest.mark.survives("F14")
def test_no_zombies_are_left() -> None:
    for _ in range(5):
        sh("setsid sleep 60 & sleep 60 & exit 0", timeout_s=0.1)
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_a_python_for_an_old_glibc_runs_programs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert sh("cat", stdin=b"sesame").stdout == "sesame"
    assert sh("cat").stdout == ""


@pytest.mark.survives("F13")
def test_a_flood_of_output_is_cut_off_in_bounded_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    done = run(["head", "-c", "100000000", "/dev/zero"], timeout_s=20, env=PATH, max_output_bytes=1 << 20)
    assert done.cut
    assert not done.ok
    assert not done.timed_out
    assert len(done.stdout) == 1 << 20
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


@pytest.mark.survives("F13")
def test_a_flood_on_stderr_is_cut_off() -> None:
    assert sh("head -c 100000000 /dev/zero >&2", timeout_s=20, max_output_bytes=1 << 20).cut


def test_output_up_to_the_limit_is_complete() -> None:
    done = run(["head", "-c", str(1 << 20), "/dev/zero"], timeout_s=20, env=PATH, max_output_bytes=1 << 20)
    assert done.ok
    assert len(done.stdout) == 1 << 20


@pytest.mark.survives("F13")
def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert sh(r"printf 'a\377\300b'").stdout == "a\ufffd\ufffdb"


def test_a_death_by_signal_is_reported() -> None:
    assert sh("kill -SEGV $$").returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    "argv",
    [["no-such-program"], ["/dev/null"], ["/"], ["sh\0"], ["sh", "\0"], ["/\udcff\n"]],
    ids=["missing", "not executable", "a directory", "NUL in its name", "NUL in an argument", "no UTF-8"],
)
def test_a_program_that_cannot_be_started_is_a_failure_without_an_exception(argv: list[str]) -> None:
    done = run(argv, timeout_s=TIMEOUT_S, env=PATH)
    assert done.returncode is None
    assert not done.ok
    assert done.problem.startswith("cannot run ")
    assert done.problem.isprintable()


def test_a_missing_directory_is_a_failure(tmp_path: Path) -> None:
    assert sh("true", cwd=str(tmp_path / "gone")).problem


def test_a_stop_request_ends_the_program_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(StoppedError):
        sh("echo $$ > pids; sleep 60", timeout_s=60, stopped=(tmp_path / "pids").exists, cwd=str(tmp_path))
    assert time.monotonic() - began < 2
    wait_until(lambda: not lives(pids_in(tmp_path / "pids")[0]))


PARENT = """
import os, sys
from evalmon_agent.slurm.commands import run
run(["sh", "-c", "echo $$ > pids; exec sleep 60"], timeout_s=60, env={"PATH": os.defpath}, dies_with_us=True)
"""


def test_a_program_can_be_tied_to_its_parents_life(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}) as us:
        wait_until(lambda: pids.exists() and pids.read_text())
        us.kill()
    wait_until(lambda: not lives(pids_in(pids)[0]))
