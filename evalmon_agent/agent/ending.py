"""Ends us exactly as the command ended."""

from __future__ import annotations

import os
import resource
import signal
from typing import NoReturn


def end_as(status: int) -> NoReturn:
    """End with this wait status: the same exit status, or by the same signal, but without a core dump of ours."""
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
    """For this process and the ones it starts from now on.

    The kernel takes a limit of 0 as "no core file" but still starts a core_pattern that is a pipe; 1 forbids both
    (core(5), do_coredump in fs/coredump.c).
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
