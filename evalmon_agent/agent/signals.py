"""Holds back all signals of a `run`, passes them on to the command until it has ended, and ends as it ended.

All are blocked and fetched one by one with sigwaitinfo, so none can kill `run`, none is lost (one that arrives before
the command was started waits), and no handler runs in between.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import suppress
from typing import Any, NoReturn

EVERY = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

# Their default action leaves the probe alive, so whether the command has them is unknown. Twice does no harm.
_PROBE_IS_DEAF_TO = frozenset({signal.SIGCONT, signal.SIGWINCH, signal.SIGURG})

# How long after us the probe may die of the same broadcast, and how long before: slurmstepd walks a process tree
# in far less, but processors may be busy. The first is by how much a signal to us alone is late.
_PROBE_AFTER_S = 0.1
_PROBE_BEFORE_S = 0.25

# What siginfo's si_code says of a signal that was sent (sigaction(2)): by kill, the kernel, sigqueue or tgkill.
_SENT = frozenset({0, 0x80, -1, -6})

_PROBE_PROGRAM = "/bin/cat"
_PROBES_AT_MOST = 1000


class ChildProcess:
    """A process of evalmon beside the command; `_pid` is 0 while there is none."""

    _pid = 0

    def check(self) -> None:
        """Note whether it has ended since the last check."""
        if self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                self._ended(status)

    def wait(self, deadline: float) -> None:
        """Wait until it has ended, or until then (monotonic)."""
        self.check()
        while self._pid and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
            self.check()

    def _ended(self, status: int) -> None:
        """It ended with this wait status."""
        raise NotImplementedError


def hold_back() -> set[int]:
    """Block all signals for this process; returns the inherited mask, which the command gets."""
    mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, EVERY)}
    # Inherited as ignored, it would make the kernel throw exit statuses away; the command has the default then.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return mask


def wait_for_signal(numbers: frozenset[int], within_s: float) -> int | None:
    """The one of these blocked signals that was sent within that time; None if none was.

    If this process is stopped and resumed meanwhile (`scontrol suspend`) and the time is over, CPython's sigtimedwait
    returns whatever lay in its memory [ran, 3.6 to 3.13].
    """
    info = signal.sigtimedwait(numbers, within_s)
    return info.si_signo if info is not None and info.si_signo in numbers and info.si_code in _SENT else None


class Relay:
    """Passes signals on to the command until it has ended.

    A signal that the command got directly is not passed on a second time: Ctrl-C in a terminal and
    proctrack/pgid reach the whole process group, proctrack/linuxproc every process of the job. The kernel
    does not tell (si_code and si_pid are the same either way); a probe does.
    """

    def __init__(self, command: int, probe: BroadcastProbe, *children: ChildProcess) -> None:
        self._command = command
        self._probe = probe
        self._children = (probe, *children)
        self._status: int | None = None

    def until_the_command_ends(self) -> int:
        """Return the command's wait status (as of waitpid)."""
        while self._status is None:
            number = int(signal.sigwaitinfo(EVERY).si_signo)
            if number == signal.SIGCHLD:
                self._check_children()
            elif not self._command_has(number):
                self._pass_on(number)
        return self._status

    def _pass_on(self, number: int) -> None:
        with suppress(PermissionError):  # it has become another user (sudo): the sender may reach it, we may not
            os.kill(self._command, number)

    def _command_has(self, number: int) -> bool:
        """Whether the probe got the signal too, at about the same time."""
        if number in _PROBE_IS_DEAF_TO:
            return False
        deadline = time.monotonic() + _PROBE_AFTER_S
        while not self._probe.died_of(number, within_s=_PROBE_BEFORE_S):
            left = deadline - time.monotonic()
            if not self._probe.alive or left <= 0 or signal.sigtimedwait({signal.SIGCHLD}, left) is None:
                return False
            self._check_children()
            if self._status is not None:
                return True
        return self._shares_the_probes_group()

    def _shares_the_probes_group(self) -> bool:
        # A command that went to a group of its own missed what went to the other; lost would be worse than twice.
        return os.getpgid(self._command) == self._probe.group

    def _check_children(self) -> None:
        for child in self._children:
            child.check()
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


class BroadcastProbe(ChildProcess):
    """A tiny process that a signal sent to all processes kills, which shows that it was sent; a dead one is replaced.

    It is `cat`, blocked on a pipe that only we hold: it ends by itself when we do, whatever kills us. Signals
    have their default action in it, so a broadcast kills it, and its death (waitpid tells of what) dates the
    broadcast; nothing can be left over from an earlier one. Measured: 0.3 ms and 0.1 MiB of its own; a fork would
    take 0.5 MiB. Where there is no `cat`, every signal is passed on.
    """

    def __init__(self, *, group: int = 0) -> None:
        """`group`: the process group to be in; 0: our own."""
        self.group = group or os.getpgrp()
        self._join: dict[str, Any] = {"setpgroup": group} if group else {}
        self._deaths_s: dict[int, float] = {}
        self._left = _PROBES_AT_MOST
        self._pipe = -1
        self._start()

    @property
    def alive(self) -> bool:
        """Whether there is one."""
        return self._pid > 0

    def died_of(self, number: int, *, within_s: float) -> bool:
        """Whether this signal reached a probe in the last `within_s` seconds; each death is reported once."""
        at = self._deaths_s.pop(number, None)
        return at is not None and time.monotonic() - at <= within_s

    def check(self) -> None:
        """Note what happened to the probe since the last check."""
        while self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if not pid:
                return
            if os.WIFSTOPPED(status):
                self._deaths_s[os.WSTOPSIG(status)] = time.monotonic()
                os.kill(pid, signal.SIGCONT)
            else:
                self._pid = 0
                if os.WIFSIGNALED(status):
                    self._deaths_s[os.WTERMSIG(status)] = time.monotonic()
                    self._start()

    def end(self) -> None:
        """End the probe, so that no process is left behind."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _start(self) -> None:
        if self._left == 0:
            return
        self._left -= 1
        try:
            if self._pipe < 0:
                self._stdin, self._pipe = os.pipe()
                forbid_core_dumps()
            self._pid = os.posix_spawn(
                _PROBE_PROGRAM,
                [_PROBE_PROGRAM],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, self._stdin, 0)],
                setsigmask=(),
                setsigdef=frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP},
                **self._join,
            )
        except OSError:
            self._pid = 0


def end_as(status: int) -> NoReturn:
    """End with this wait status: the same exit status, or by the same signal, but without a core dump."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    forbid_core_dumps()
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os._exit(128 + number)  # pid 1 of a container, on which signals do not act; as a shell says it


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and of those it starts from now on.

    The kernel takes a limit of 0 as "no core file" but still starts a core_pattern that is a pipe; 1 forbids both
    (core(5), do_coredump in fs/coredump.c).
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
