"""Runs evalmon in a terminal of a given size, with Ctrl-C for every process in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """One evalmon command in its own terminal; `text` is everything that it has shown so far."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        rows: int = 24,
        columns: int = 100,
        stdout: Path | None = None,
    ) -> None:
        """`stdout`: a file for it instead of the terminal."""
        self.text = ""
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {"TERM": "xterm-256color", **{k: v for k, v in env.items() if k not in {"COLUMNS", "LINES"}}}
        # The first terminal that a session's leader opens is its own, where Ctrl-C reaches all that it runs.
        setsid = [sys.executable, "-c", _IN_ITS_OWN_TERMINAL, os.ttyname(its), str(stdout or "")]
        argv = [*setsid, sys.executable, "-m", "evalmon_agent", *words]
        self.process = subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, env=env, cwd=cwd)
        os.close(its)

    def shows(self, text: str | Callable[[], bool], *, within_s: float = 60.0) -> bool:
        """Whether it shows that text, or the call returns True, by then."""
        until = time.monotonic() + within_s

        def is_there() -> bool:
            return text in "\n".join(self.lines) if isinstance(text, str) else text()

        while not is_there():
            if time.monotonic() > until or (self.process.poll() is not None and not self._read()):
                return is_there()
            self._read()
        return True

    def press_ctrl_c(self) -> None:
        """Type as a person would."""
        os.write(self._ours, b"\x03")

    def end(self, *, within_s: float = 60.0) -> int:
        """Its exit status."""
        until = time.monotonic() + within_s
        while self.process.poll() is None and time.monotonic() < until:
            self._read()
        while self._read():
            pass
        status = self.process.wait(1)
        os.close(self._ours)
        return status

    @property
    def lines(self) -> list[str]:
        """What it has shown, without colours and cursor movements."""
        return [line.rstrip() for line in _SEQUENCE.sub("", self.text).replace("\r", "").splitlines()]

    def _read(self) -> bool:
        with contextlib.suppress(OSError):  # EIO: no process has it open any more
            if select.select([self._ours], [], [], 0.05)[0]:
                data = os.read(self._ours, 1 << 16)
                self.text += data.decode(errors="replace")
                return bool(data)
        return False


_IN_ITS_OWN_TERMINAL = """
import os, sys
os.setsid()
os.close(os.open(sys.argv[1], os.O_RDWR))
if sys.argv[2]:
    os.dup2(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
os.execv(sys.argv[3], sys.argv[3:])
"""
