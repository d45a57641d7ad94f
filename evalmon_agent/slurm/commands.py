"""The one door to other programs: run an argv, bounded in time and output, leaving no process behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MAX_OUTPUT_BYTES = 64 * 1024 * 1024
_CHUNK = 1 << 16
_LEFT_S = 1.0
_PR_SET_PDEATHSIG = 1


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
        """Whether the program ran to its end, said 0, and its output is whole."""
        return self.returncode == 0 and not self.timed_out and not self.cut


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: bytes | None = None,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    dies_with_us: bool = False,
) -> Finished:
    """Run `argv` in a process group of its own and read what it prints.

    Promises: returns within `timeout_s` plus one second; the whole group is killed by then (a program that
    ignores TERM, a grandchild that keeps the pipe open); memory is bounded by `max_output_bytes`; never raises
    for anything that the program does. Bytes that are not UTF-8 are replaced. `dies_with_us`: should we be
    killed, the kernel kills the program at once, so that it does nothing more that nobody records.
    """
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()) if dies_with_us else None,  # noqa: PLW1509 - no threads here
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Finished(None, "", "", problem=f"cannot run {argv[0]}: {error}")
    deadline = time.monotonic() + timeout_s
    try:
        out, cut, timed_out = _talk(child, stdin or b"", deadline=deadline, bound=max_output_bytes)
        if not timed_out and not cut:
            timed_out = not _wait(child, max(deadline - time.monotonic(), 0.0))
    finally:
        _end(child)
    stdout, stderr = (data.decode(errors="replace") for data in out)
    return Finished(child.returncode, stdout, stderr, timed_out=timed_out, cut=cut)


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask_the_kernel


def _talk(
    child: subprocess.Popen[bytes], stdin: bytes, *, deadline: float, bound: int
) -> tuple[tuple[bytearray, bytearray], bool, bool]:
    """Feed stdin and read both pipes until they close, the bound or the deadline is reached."""
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, sink in ((child.stdout, stdout), (child.stderr, stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, sink)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE, None)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return (stdout, stderr), False, True
            for key, _ in selector.select(left):
                if key.data is None:
                    stdin = _feed(key.fd, stdin)
                    if not stdin and child.stdin is not None:
                        selector.unregister(key.fileobj)
                        child.stdin.close()
                    continue
                data = _read(key.fd)
                if data == b"":
                    selector.unregister(key.fileobj)
                key.data.extend(data or b"")
                if len(key.data) > bound:
                    del key.data[bound:]
                    return (stdout, stderr), True, False
    return (stdout, stderr), False, False


def _feed(fd: int, data: bytes) -> bytes:
    try:
        return data[os.write(fd, data[:_CHUNK]) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""  # it closed its stdin: what it did not want is no error of ours


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


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
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
