"""Tests that a sidecar goes on after it temporarily lacked processes, descriptors, memory or its directory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import as_root
import faults
from experiments import STARTED, Exp, ended, running

POLL_S = 0.2
TRANSITIONS = [("r1/a", "PENDING", "RUNNING"), ("r1/a", "RUNNING", "FAILED")]


def begin(exp: Exp) -> Exp:
    (exp.root / "evalmon.yaml").write_text(json.dumps({"poll_interval": POLL_S, "seff_retry_delay": 0.1}))
    exp.register(r1_a="11")
    exp.report("11", "r1/a", started_at=float(STARTED))
    exp.slurm.show([running("11")])
    return exp


class Watched:
    """A sidecar as a process, its output and its end."""

    def __init__(self, exp: Exp, output: Path) -> None:
        self.exp = exp
        self.output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "evalmon_agent", "sidecar", "--", str(exp.root)],
                env={**exp.slurm.environ, "SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": str(int(time.time()) + 86400)},
                stdout=file,
                stderr=file,
            )

    def wait(self, condition: Callable[[], object]) -> None:
        try:
            faults.wait_until(condition, within_s=30)
        except AssertionError:
            raise AssertionError(f"{self.output.read_text()}\n{self.exp.log()}") from None
        assert self.process.poll() is None, self.output.read_text()

    def descriptor_of(self, path: Path) -> int:
        """The first that it opened."""
        for number in range(3, 100):
            with suppress(OSError):
                if os.readlink(f"/proc/{self.process.pid}/fd/{number}") == str(path):
                    return number
        raise AssertionError(path)

    def failures(self) -> int:
        return self.output.read_text().count("poll failed: ")

    def polls(self) -> int:
        return self.exp.log().count("] STATUS_CHECK: ")

    def limit(self, what: int, value: int) -> None:
        hard = resource.prlimit(self.process.pid, what)[1]
        resource.prlimit(self.process.pid, what, (value, hard))

    def goes_on(self) -> None:
        """Check that it polls, caught up, counted its failed polls, ends with the evals, and leaves nothing behind."""
        before = self.polls()
        self.wait(lambda: self.polls() >= before + 2)
        assert heartbeat(self.exp)["failed_polls"] >= min(self.failures(), 1)
        self.exp.slurm.show([ended("11", "FAILED")])
        assert self.process.wait(30) == 0, self.output.read_text()
        assert self.exp.transitions() == TRANSITIONS
        assert len(self.exp.blocks("ALL_COMPLETE")) == len(self.exp.blocks("COMPUTE_METRICS")) == 1
        assert len(self.exp.blocks("MONITOR_STARTED")) == len(self.exp.blocks("MONITOR_STOPPED")) == 1
        assert self.exp.blocks("MONITOR_CONFIG") == []


def heartbeat(exp: Exp) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((exp.ours / "observer.json").read_text())
    return found


@contextmanager
def sidecar(exp: Exp, tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(exp, tmp_path / "output")
    try:
        watched.wait(lambda: watched.polls() >= 1)
        yield watched
    finally:
        watched.process.kill()
        watched.process.wait()


@pytest.mark.survives("F24")
def test_it_goes_on_after_it_had_no_file_descriptors(tmp_path: Path) -> None:
    exp = begin(Exp(tmp_path))
    with sidecar(exp, tmp_path) as watched:
        watched.limit(resource.RLIMIT_NOFILE, 3)
        watched.wait(lambda: watched.failures() >= 2)
        before = watched.failures()
        watched.limit(resource.RLIMIT_NOFILE, 1024)
        watched.wait(lambda: heartbeat(exp)["failed_polls"] >= before)
        watched.goes_on()


@pytest.mark.survives("F24")
def test_it_goes_on_after_it_had_no_memory(tmp_path: Path) -> None:
    """Slurm's answer is larger than the free memory."""
    exp = begin(Exp(tmp_path))
    with sidecar(exp, tmp_path) as watched:
        pages = int(Path(f"/proc/{watched.process.pid}/statm").read_text().split()[0])
        watched.limit(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGE_SIZE") + (4 << 20))
        exp.slurm.answer("squeue", "x" * (24 << 20))
        watched.wait(lambda: watched.failures() >= 2)
        watched.limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
        exp.slurm.show([running("11")])
        watched.wait(lambda: "MemoryError" in str(heartbeat(exp)["last_error"]))
        watched.goes_on()


@pytest.mark.survives("F24")
@faults.needs_strace
def test_it_goes_on_after_it_could_start_no_processes(tmp_path: Path) -> None:
    exp = begin(Exp(tmp_path))
    with sidecar(exp, tmp_path) as watched:
        spawns = "clone,clone3,fork,vfork"
        options = ("-e", f"trace={spawns}", "-e", f"inject={spawns}:error=EAGAIN:when=1..3")
        with faults.traced(watched.process.pid, "-o", "/dev/null", *options):
            watched.wait(lambda: len(exp.blocks("QUERY_ERROR")) >= 3)
            assert "Resource temporarily unavailable" in exp.blocks("QUERY_ERROR")[0]
            assert heartbeat(exp)["failed_polls"] >= 3
            watched.goes_on()


@contextmanager
def mounted_study(tmp_path: Path) -> Iterator[tuple[Exp, Callable[..., None]]]:
    """An experiment whose directory is a mount, and a function to mount it differently."""
    exp, store = Exp(tmp_path), tmp_path / "store"
    store.mkdir()

    def mount(*words: str) -> None:
        # Busy while the sidecar has a file open for writing.
        faults.wait_until(lambda: as_root.run(*words, exp.root, check=False).returncode == 0, within_s=30)

    mount("mount", "--bind", str(store))
    try:
        yield begin(exp.anew()), mount
    finally:
        as_root.run("umount", "-l", exp.root, check=False)


@pytest.mark.survives("F22")
@as_root.needs_root
def test_it_goes_on_after_the_shared_directory_was_read_only(tmp_path: Path) -> None:
    with mounted_study(tmp_path) as (exp, mount), sidecar(exp, tmp_path) as watched:
        mount("mount", "-o", "remount,bind,ro")
        exp.slurm.show([ended("11", "FAILED", queued=True)])
        before = exp.log()
        watched.wait(lambda: watched.failures() >= 3)
        assert exp.log() == before
        mount("mount", "-o", "remount,bind,rw")
        assert watched.process.wait(30) == 0, watched.output.read_text()
        assert exp.transitions() == TRANSITIONS
        assert heartbeat(exp)["failed_polls"] >= 3


@pytest.mark.survives("F22")
@as_root.needs_root
def test_it_goes_on_after_the_shared_directory_was_gone(tmp_path: Path) -> None:
    """An empty mount point in its place is not the experiment: nothing is created or believed there."""
    with mounted_study(tmp_path) as (exp, mount), sidecar(exp, tmp_path) as watched:
        mount("umount", "-l")
        watched.wait(lambda: watched.failures() >= 3)
        assert os.listdir(exp.root) == []
        mount("mount", "--bind", str(tmp_path / "store"))
        watched.goes_on()


@pytest.mark.survives("F22")
@as_root.needs_root
def test_it_goes_on_after_the_file_system_was_mounted_under_another_number(tmp_path: Path) -> None:
    exp, images = Exp(tmp_path), [tmp_path / "one", tmp_path / "two"]
    subprocess.run(["truncate", "-s", "16M", images[0]], check=True)
    owner = f"root_owner={os.geteuid()}:{os.getegid()}"
    as_root.run("mkfs.ext4", "-q", "-E", owner, images[0])

    def mount(image: Path) -> int:
        if as_root.run("mount", "-o", "loop", image, exp.root, check=False).returncode:
            pytest.skip("needs a loop device")
        return exp.root.stat().st_dev

    before = mount(images[0])
    try:
        begin(exp.anew())
        with sidecar(exp, tmp_path) as watched:
            as_root.run("umount", "-l", exp.root)
            watched.wait(lambda: watched.failures() >= 2)
            os.sync()
            shutil.copy(images[0], images[1])
            assert mount(images[1]) != before
            watched.goes_on()
    finally:
        as_root.run("umount", "-l", exp.root, check=False)


@pytest.mark.survives("F3", "F22")
@faults.needs_strace
@pytest.mark.parametrize(
    "error",
    [
        "EIO",
        "ETIMEDOUT",
        pytest.param("ESTALE", marks=pytest.mark.full),
        pytest.param("ENOTCONN", marks=pytest.mark.full),
    ],
)
def test_it_goes_on_after_the_file_system_returned_errors(tmp_path: Path, error: str) -> None:
    """Every file of the experiment that it opens; an unreadable state is not an empty one."""
    exp = begin(Exp(tmp_path))
    with sidecar(exp, tmp_path) as watched:
        held = watched.descriptor_of(exp.ours)
        names = ("state.json", "registry.jsonl", "lock.json", "state.json.lock", "jobs", "monitor.log")
        paths = [word for name in names for word in ("-P", f"/proc/self/fd/{held}/{name}")]
        options = (*paths, "-e", "trace=openat", "-e", f"inject=openat:error={error}")
        tracer = subprocess.Popen(
            ["strace", "-qq", "-p", str(watched.process.pid), "-o", "/dev/null", *options], stderr=subprocess.DEVNULL
        )
        try:
            watched.wait(lambda: watched.failures() >= 1)
            before = exp.state()
            watched.wait(lambda: watched.failures() >= 4)
            assert exp.state() == before
        finally:
            tracer.send_signal(signal.SIGINT)  # it releases the sidecar
            tracer.wait()
        watched.goes_on()
        assert not [name for name in os.listdir(exp.ours) if "corrupt" in name]
