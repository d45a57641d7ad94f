"""Holds back all signals of a `run` from its first line on, and passes them on to the command until that has ended.

All are blocked and fetched one by one with sigwaitinfo, so none can kill us, none is lost (one that came before
the command was started waits), and no handler runs in between.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Protocol

from .canary import Canary


class Helper(Protocol):
    """A process of ours beside the command."""

    def look(self) -> None:
        """Take note of its end, if it has ended."""


EVERY = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

# Their default action leaves the canary alive: nobody can tell whether the command has them too. Twice is no harm.
_CANARY_IS_DEAF_TO = frozenset({signal.SIGCONT, signal.SIGWINCH, signal.SIGURG})

# How long after us the canary may die of the same broadcast, and how long before: slurmstepd walks a process tree
# in far less, but processors may be busy. The first is by how much a signal to us alone is late.
_CANARY_AFTER_S = 0.1
_CANARY_BEFORE_S = 0.25


def hold_back() -> set[int]:
    """From now on no signal acts on us; returns the mask we inherited, which is the command's."""
    mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, EVERY)}
    # Inherited as ignored, it would make the kernel throw exit statuses away; the command has the default then.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return mask


class Relay:
    """Passes on what reaches us until the command has ended.

    A signal that the command got directly is not passed on a second time: Ctrl-C in a terminal and
    proctrack/pgid reach the whole process group, proctrack/linuxproc every process of the job. The kernel
    does not tell (si_code and si_pid are the same either way); a canary does.
    """

    def __init__(self, command: int, canary: Canary, *helpers: Helper) -> None:
        self._command = command
        self._canary = canary
        self._helpers = (canary, *helpers)
        self._status: int | None = None

    def until_the_command_ends(self) -> int:
        """Return the command's wait status (as of waitpid)."""
        while self._status is None:
            number = int(signal.sigwaitinfo(EVERY).si_signo)
            if number == signal.SIGCHLD:
                self._look_at_children()
            elif not self._command_has(number):
                self._pass_on(number)
        return self._status

    def _pass_on(self, number: int) -> None:
        with suppress(PermissionError):  # it has become another user (sudo): the sender may reach it, we may not
            os.kill(self._command, number)

    def _command_has(self, number: int) -> bool:
        """Whether the canary got the signal too, at about the same time."""
        if number in _CANARY_IS_DEAF_TO:
            return False
        deadline = time.monotonic() + _CANARY_AFTER_S
        while not self._canary.died_of(number, within_s=_CANARY_BEFORE_S):
            left = deadline - time.monotonic()
            if not self._canary.alive or left <= 0 or signal.sigtimedwait({signal.SIGCHLD}, left) is None:
                return False
            self._look_at_children()
            if self._status is not None:
                return True
        return self._shares_the_canarys_group()

    def _shares_the_canarys_group(self) -> bool:
        # A command that went to a group of its own missed what went to the other; lost would be worse than twice.
        return os.getpgid(self._command) == self._canary.group

    def _look_at_children(self) -> None:
        for helper in self._helpers:
            helper.look()
        pid, status = os.waitpid(self._command, os.WNOHANG | os.WUNTRACED)
        if pid and not os.WIFSTOPPED(status):
            self._status = status
        elif pid and os.WSTOPSIG(status) in JOB_CONTROL and _has_terminal():
            # Ctrl-Z: the shell that waits for us must see a stop. `fg` continues us all.
            os.kill(os.getpid(), signal.SIGSTOP)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
