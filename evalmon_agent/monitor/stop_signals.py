"""Lets a long-running program stop in an orderly way: a signal is remembered, and ends every wait at once."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType

from evalmon_agent.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Takes TERM, INT and HUP from `take` on.

    A pipe, not a threading.Event: one that a handler sets can wait for ever for its own lock.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._reads, self._writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def take(self) -> None:
        """Handle these signals: they are recorded from now on."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def is_set(self) -> bool:
        """Whether a signal asked this process to stop."""
        return self.name is not None

    def wait(self, seconds: float) -> None:
        """Wait that long, or until a signal asks this process to stop."""
        select.select([self._reads], [], [], max(seconds, 0.0))

    def pause(self, seconds: float) -> None:
        """Wait that long; StoppedError once a signal asks this process to stop."""
        self.wait(seconds)
        if self.name is not None:
            raise StoppedError(f"ended by {self.name}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.name is None:
            self.name = signal.Signals(number).name
            os.write(self._writes, b"!")
