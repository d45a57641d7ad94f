"""A tiny process of ours that dies of what is sent to everybody, so that we learn of it.

It is `cat`, blocked on a pipe that only we hold: it ends by itself when we do, whatever kills us. Signals
have their default action in it, so a broadcast kills it, and its death (waitpid tells of what) dates the
broadcast; nothing can be left over from an earlier one. Measured: 0.3 ms and 0.1 MiB of its own; a fork of ours
would be 0.5 MiB. Where there is no `cat`, every signal is passed on.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from .ending import forbid_core_dumps

_PROGRAM = "/bin/cat"
_LIVES = 1000


class Canary:
    """The present canary; a dead one is replaced at once. Not a word to the eval if there can be none."""

    def __init__(self, *, group: int = 0) -> None:
        """`group`: the process group to be in; 0: our own."""
        self.group = group or os.getpgrp()
        self._join: dict[str, Any] = {"setpgroup": group} if group else {}
        self._heard: dict[int, float] = {}
        self._pid = 0
        self._lives = _LIVES
        self._pipe = -1
        self._start()

    @property
    def alive(self) -> bool:
        """Whether somebody listens."""
        return self._pid > 0

    def died_of(self, number: int, *, within_s: float) -> bool:
        """Whether this signal reached a canary in the last `within_s` seconds; each death is told once."""
        at = self._heard.pop(number, None)
        return at is not None and time.monotonic() - at <= within_s

    def look(self) -> None:
        """Note what happened to the canary since the last look."""
        while self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if not pid:
                return
            if os.WIFSTOPPED(status):
                self._heard[os.WSTOPSIG(status)] = time.monotonic()
                os.kill(pid, signal.SIGCONT)
            else:
                self._pid = 0
                if os.WIFSIGNALED(status):
                    self._heard[os.WTERMSIG(status)] = time.monotonic()
                    self._start()

    def end(self) -> None:
        """Leave no process behind."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _start(self) -> None:
        if self._lives == 0:
            return
        self._lives -= 1
        try:
            if self._pipe < 0:
                self._stdin, self._pipe = os.pipe()
                forbid_core_dumps()
            self._pid = os.posix_spawn(
                _PROGRAM,
                [_PROGRAM],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, self._stdin, 0)],
                setsigmask=(),
                setsigdef=frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP},
                **self._join,
            )
        except OSError:
            self._pid = 0
