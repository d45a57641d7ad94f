"""Causes real faults: a process is killed, or gets an error, at one exact system call.

A fork of the test (everything is imported already) does the work. It stops itself first; strace attaches, and then the
work continues. Only that process is traced, not the programs that it starts.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import as_root

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

# linux/prctl.h: with a strict Yama, only a process's ancestors may trace it unless it allows more.
PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)

# Every call that changes files on disk or the holder of a lock, and those that open and close.
CHANGING = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,ftruncate,unlink,unlinkat,link,linkat"
CALLS = f"openat,close,flock,mkdir,chmod,fchmod,{CHANGING}"
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")

Point = tuple[str, int]
"""The n-th invocation of a system call, from 1."""


def forked(work: Callable[[], object]) -> int:
    """The pid of a fork that stopped itself before `work`; it ends with 0, or with 1 after an exception."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.waitpid(pid, os.WUNTRACED)
        return pid
    status = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        status = 0
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """Continue a stopped fork, wait for it, and return its exit status (negative: the signal)."""
    os.kill(pid, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def traced(pid: int, *options: str) -> Iterator[None]:
    """Run strace on a stopped process until both have ended."""
    with subprocess.Popen(
        ["strace", "-qq", "-p", str(pid), *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as tracer:
        deadline = time.monotonic() + 20
        while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
            assert tracer.poll() is None, tracer.stderr and tracer.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        yield


def points(work: Callable[[], object], trace: Path, *, calls: str = CALLS, options: Sequence[str] = ()) -> list[Point]:
    """Every invocation of these calls that `work` makes, in order; `work` is done once, under strace's `options`."""
    pid = forked(work)
    with traced(pid, "-o", str(trace), "-e", f"trace={calls}", "-e", "signal=none", *options):
        assert ended(pid) == 0, trace.read_text()[-2000:]
    seen: Counter[str] = Counter()
    found = []
    for line in trace.read_text().splitlines():
        match = _CALL.match(line)
        if match:
            seen[match[1]] += 1
            found.append((match[1], seen[match[1]]))
    return found


def killed_at(work: Callable[[], object], point: Point, *, options: Sequence[str] = ()) -> bool:
    """Do `work` in a fork that is killed as it enters this call; False if it never came there.

    `options`: what strace does besides (refuses other calls, say); of two injections into one call the later holds.
    """
    call, number = point
    pid = forked(work)
    kill = f"inject={call}:signal=KILL:when={number}"
    with traced(pid, "-o", "/dev/null", *(options or ("-e", f"trace={call}")), "-e", kill):
        status = ended(pid)
    assert status in {0, -signal.SIGKILL}, f"ended with {status} instead of dying at {point}"
    return status != 0


def refused_at(work: Callable[[], object], point: Point, error: str) -> int:
    """Do `work` in a fork in which this call fails with this error; returns its exit status."""
    call, number = point
    pid = forked(work)
    with traced(pid, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}"):
        return ended(pid)


def under(work: Callable[[], object], *options: str) -> int:
    """Do `work` in a fork under strace with these options; returns its exit status."""
    pid = forked(work)
    with traced(pid, "-o", "/dev/null", *options):
        return ended(pid)


def refused_always(work: Callable[[], object], call: str, error: str) -> int:
    """Do `work` in a fork in which this call always fails; returns its exit status."""
    pid = forked(work)
    with traced(pid, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}"):
        return ended(pid)


@contextmanager
def small_disk(directory: Path, *, kib: int) -> Iterator[Path]:
    """A file system of that size, mounted for a while."""
    with as_root.mounted(directory, "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs"):
        yield directory


PLANTS = ("symlink", "dangling", "fifo", "hard link", "directory", "device")


def plant(kind: str, path: Path, victim: Path) -> None:
    """Put something else in place of a file of evalmon's; `victim` is the file that a link leads to."""
    path.unlink(missing_ok=True)
    if kind == "symlink":
        path.symlink_to(victim)
    elif kind == "dangling":
        path.symlink_to(victim.parent / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "device":
        if not as_root.has_root:
            pytest.skip("needs root (mknod)")
        as_root.run("mknod", "-m", "666", path, "c", "1", "5")  # /dev/zero
        as_root.give(path, user=os.geteuid(), group=os.getegid())
    else:
        path.mkdir()
        (path / "mine").touch()


def crowd(number: int, work: Callable[[int], object]) -> list[int]:
    """Run `work(i)` in so many forks at once; returns their exit statuses."""
    pids = [forked(lambda i=i: work(i)) for i in range(number)]  # type: ignore[misc]
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def lives(pid: int | str) -> bool:
    """Whether the process runs; one that was killed and not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait until the condition is true; fail after that time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@contextmanager
def noted(fault: str) -> Iterator[None]:
    """Add to a failed check which fault came before it."""
    try:
        yield
    except AssertionError as error:
        error.add_note(fault)
        raise


def bytes_read() -> int:
    """The bytes that this process has read so far (proc(5): rchar)."""
    return int(Path("/proc/self/io").read_text().split()[1])
