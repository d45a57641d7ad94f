"""What one process works with: experiment, settings, Slurm, environment, clock, and the signals that stop it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType

from evalmon_agent.errors import StoppedError
from evalmon_agent.experiment import settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.settings import FAST_POLLING, Settings
from evalmon_agent.slurm.client import Slurm


@dataclass(frozen=True, slots=True)
class Session:
    """`environ` is passed to Slurm's commands and the monitor jobs; `clock` returns epoch seconds.

    If the settings change while a process runs, it continues with a new session (`dataclasses.replace`).
    """

    experiment: Experiment
    settings: Settings
    slurm: Slurm
    environ: Mapping[str, str]
    clock: Callable[[], float] = time.time

    @classmethod
    def of_command(cls, experiment: Experiment, *, for_reading: bool = False) -> Session:
        """The session of a command (exit status 78 if the settings cannot be used).

        `for_reading`: whether fast polling is allowed is not checked again. Another user's experiment is read with that
        user's settings.
        """
        environ = {**os.environ, FAST_POLLING: "1"} if for_reading else os.environ
        owner = experiment.owner if for_reading else None
        settings = settings_file.load(experiment.settings, environ=environ, owner=owner)
        return cls(experiment, settings, Slurm(os.environ), os.environ)

    @classmethod
    def of_monitor_job(
        cls, experiment: Experiment, *, token: str | None, experiment_id: str | None
    ) -> tuple[Session, str]:
        """The session of a monitor job, once it is certain that the experiment is the right one.

        If the settings are invalid: with those of its submission, and why.
        """
        experiment.expect(experiment_id)
        experiment.require_monitored()
        experiment.check()
        kept = experiment.kept_settings(token) if token is not None else None
        settings, unusable = settings_file.load_or_kept(experiment.settings, kept=kept, environ=os.environ)
        return cls(experiment, settings, Slurm(os.environ), os.environ), unusable


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Takes TERM, INT and HUP once they are installed.

    A pipe, not a threading.Event: one that a handler sets can wait for ever for its own lock.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._reads, self._writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
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
