"""Makes calls that may hang, in a thread: the main one asks, goes on, and learns of the answer from a descriptor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Worker:
    """Runs `work` once for each `ask`. It never ends by itself: leave the process with os._exit.

    Attributes:
        done: readable when an answer is there.
        is_busy: an answer is awaited.

    Raises:
        RuntimeError: there is no room for a thread.
        OSError: nor for a pipe.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._answer: object = None
        self._go = threading.Lock()
        self._go.acquire()
        self.is_busy = False
        self.done, self._told = os.pipe()
        threading.Thread(target=self._live, daemon=True).start()

    def ask(self) -> None:
        """Start the work; not while it is busy."""
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
            self._go.acquire()
            try:
                self._answer = self._work()
            except BaseException as error:  # noqa: BLE001 (a tick's catch-all: the main thread counts it)
                self._answer = error
            os.write(self._told, b".")
