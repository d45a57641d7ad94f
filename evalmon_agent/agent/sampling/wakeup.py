"""Wakes the main thread: at a signal to end, the end of the parent, an answer of the worker, a point in time."""

from __future__ import annotations

import os
import select
import signal
import time

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NAMES = {int(signal.SIGTERM): "SIGTERM", int(signal.SIGINT): "SIGINT", int(signal.SIGHUP): "SIGHUP"}
_LONGEST_S = 3600.0


class Wakeup:
    """Waits for them all at once. Make it in the main thread; all signals but the three stay as they are."""

    def __init__(self, *, parent_pipe: int) -> None:
        """`parent_pipe`: a pipe whose other end the parent holds, or -1."""
        self._parent_pipe = parent_pipe
        self._parent = os.getppid()
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in _ENDING:
            signal.signal(number, _nothing)
        self._poll = select.poll()
        for descriptor in (self._reading, parent_pipe):
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def listen_to(self, descriptor: int) -> None:
        """Wake up for this one too."""
        self._poll.register(descriptor, select.POLLIN)

    def wait(self, until_s: float) -> tuple[str, bool]:
        """Wait until then (monotonic) at most; why to end ("" if nothing says so), and whether the worker is done."""
        left_s = min(max(until_s - time.monotonic(), 0.0), _LONGEST_S)
        ready = {descriptor for descriptor, _ in self._poll.poll(left_s * 1000)}
        is_done = bool(ready - {self._reading, self._parent_pipe})
        if self._reading in ready:
            numbers = os.read(self._reading, 64)
            return next((_NAMES[number] for number in numbers if number in _NAMES), ""), is_done
        if self._parent_pipe in ready or os.getppid() != self._parent:
            return "the parent is gone", is_done
        return "", is_done


def _nothing(_number: int, _frame: object) -> None:
    """A handler, so that the signal is written to the wake-up descriptor."""
