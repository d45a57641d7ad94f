"""Runs other programs (nothing else in evalmon does): bounded in time and output, leaving no process behind."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.errors import StoppedError
from evalmon_agent.words.printable import printable

MAX_OUTPUT_BYTES = 32 * 1024 * 1024
_CHUNK = 1 << 16
_LEFT_S = 1.0
_LOOK_S = 0.25
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. `returncode` is None if it could not be started; `problem` then says why.

    `timed_out` and `cut` (output beyond the bound was thrown away) mean that stdout is no whole answer.
    """

    returncode: int | None
    stdout: str
    stderr: str
    timed_out: bool = False
    cut: bool = False
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the program ended with status 0 and its output is complete."""
        return self.returncode == 0 and not self.timed_out and not self.cut


def find_program(name: str, environ: Mapping[str, str]) -> str | None:
    """The absolute path of a program on PATH; None if there is none.

    Empty and relative entries of PATH mean the working directory, where others may have put a program: ignored.
    """
    for entry in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(entry, name)
        if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str],
    cwd: str | None = None,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    dies_with_us: bool = False,
    stopped: Callable[[], bool] | None = None,
    stdin: bytes = b"",
) -> Finished:
    """Run `argv` in a process group of its own and read what it prints.

    Promises: returns within `timeout_s` plus one second; what is left of it is killed by then (a program that
    ignores TERM, a grandchild that keeps the pipe open, one in a session of its own); memory is bounded by
    `max_output_bytes`; never raises for anything that the program does. Bytes that are not UTF-8 are replaced.
    `dies_with_us`: if this process is killed, the kernel kills the program at once, so that it does nothing
    unrecorded. `stopped`: asked now and then; once it says so the program is killed, and StoppedError raised.
    `stdin`: what the program can read there.
    """
    program = find_program(argv[0], env)
    if program is None:
        return Finished(None, "", "", problem=printable(f"cannot run {argv[0]}: not found on PATH"))
    with _orphans_become_ours() as kill_orphans, _readable(stdin) as descriptor:
        try:
            child = subprocess.Popen(
                [program, *argv[1:]],
                stdin=descriptor,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()) if dies_with_us else None,  # noqa: PLW1509 - no threads here
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return Finished(None, "", "", problem=printable(f"cannot run {argv[0]}: {error}"))
        output = _Output(bound=max_output_bytes)
        try:
            ended = output.read(child, deadline=time.monotonic() + timeout_s, stopped=stopped or (lambda: False))
        finally:
            _end(child)
            kill_orphans()
    stdout, stderr = (data.decode(errors="replace") for data in (output.stdout, output.stderr))
    return Finished(child.returncode, stdout, stderr, timed_out=not ended and not output.cut, cut=output.cut)


class Background:
    """One of evalmon's programs, started and not waited for; it may outlive this process."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        """Start it, in a session of its own, without a terminal or pipe. OSError if that is not possible."""
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    def end(self) -> None:
        """Ask it to end, and give it a second for that."""
        self._child.terminate()
        _wait(self._child, _LEFT_S)


@contextlib.contextmanager
def _readable(data: bytes) -> Iterator[int]:
    """A descriptor that reads as `data`: no pipe, which a program that does not read would block."""
    if not data:
        yield subprocess.DEVNULL
        return
    # In memory where Python can, if it was not built for an old glibc: what is sent may be a secret.
    in_memory = hasattr(os, "memfd_create")
    with open(os.memfd_create("stdin"), "w+b") if in_memory else tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


class _Output:
    """What one program prints, up to the bound."""

    def __init__(self, *, bound: int) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.cut = False
        self._bound = bound

    def read(self, child: subprocess.Popen[bytes], *, deadline: float, stopped: Callable[[], bool]) -> bool:
        """Read until the program has ended; False if it missed the deadline or printed too much."""
        with selectors.DefaultSelector() as selector:
            for pipe, sink in ((child.stdout, self.stdout), (child.stderr, self.stderr)):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, sink)
            while not self.cut and (left_s := deadline - time.monotonic()) > 0:
                if stopped():
                    raise StoppedError("a command of Slurm was stopped: evalmon was asked to stop")
                if selector.get_map():
                    self._read_some(selector, min(left_s, _LOOK_S))
                elif _wait(child, min(left_s, _LOOK_S)):
                    return True
        return False

    def _read_some(self, selector: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in selector.select(timeout_s):
            data = os.read(key.fd, _CHUNK)
            if not data:
                selector.unregister(key.fileobj)
            key.data.extend(data)
            if len(key.data) > self._bound:
                del key.data[self._bound :]
                self.cut = True


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> bool:
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group and close the pipes; a grandchild in the group dies with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    _wait(child, _LEFT_S)
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask_the_kernel


@contextlib.contextmanager
def _orphans_become_ours() -> Iterator[Callable[[], None]]:
    """Orphans become children of this process meanwhile, even from other sessions; calling the result kills them."""
    libc = ctypes.CDLL(None)
    known = _children()
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield lambda: _kill_children(but=known)
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)


def _kill_children(*, but: frozenset[int]) -> None:
    """Kill and reap; children of killed processes become this process's children, and are killed too."""
    deadline = time.monotonic() + _LEFT_S
    while (found := _children() - but) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.001)


def _children() -> frozenset[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    found: set[int] = set()
    for path in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            found.update(map(int, file.read().split()))
    return frozenset(found)
