"""Wakes the main thread, and makes calls that may hang in another one."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_NAMES = {int(signal.SIGTERM): "SIGTERM", int(signal.SIGINT): "SIGINT", int(signal.SIGHUP): "SIGHUP"}
_LONGEST_S = 3600.0

_IDLE_S = 1.0


class Wakeup:
    """Waits for signals, the parent's end and the worker at once. Create it in the main thread."""

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
        """Also wake up when this descriptor is readable."""
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
    """Does nothing; with a handler, Python writes the signal to the wake-up descriptor."""


class Worker:
    """Runs `work` in a thread once for each `ask`, and `idle` each second until it is asked again.

    It never ends by itself: leave the process with os._exit.

    Attributes:
        done: readable when an answer is there.
        is_busy: an answer is awaited.

    Raises:
        RuntimeError: no thread can be created.
        OSError: no pipe can be created.
    """

    def __init__(self, work: Callable[[], object], *, idle: Callable[[], None]) -> None:
        self._work = work
        self._idle = idle
        self._answer: object = None
        self._go = threading.Lock()
        self._go.acquire()
        self.is_busy = False
        self.done, self._told = os.pipe()
        threading.Thread(target=self._live, daemon=True).start()

    def ask(self) -> None:
        """Start the work; do not call it while the worker is busy."""
        self.is_busy = True
        self._go.release()

    def answer(self) -> object:
        """What the work returned, or the exception that it raised. Call it when `done` is readable."""
        os.read(self.done, 1)
        self.is_busy = False
        answer, self._answer = self._answer, None
        return answer

    def _live(self) -> None:
        while True:
            if not self._go.acquire(timeout=_IDLE_S):
                self._idle()
                continue
            try:
                self._answer = self._work()
            except BaseException as error:  # noqa: BLE001 (a tick's catch-all: the main thread counts it)
                self._answer = error
            os.write(self._told, b".")
