"""Sends what the journal says is still to be sent, one notification and one target at a time.

An observer starts `evalmon notify EXP` for that and does not wait for it. Each notification is sent by a program of
its own with a time limit: a target that hangs delays no other for long.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from evalmon_agent.errors import StoppedError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.notify.journal import Ended, Journal, Sent, Target, began, failed, targets_of
from evalmon_agent.notify.send import NO_APPRISE, UNKNOWN_URL
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm import commands
from evalmon_agent.summary.notifications import Notification

SEND_AT_MOST_S = 30.0
BEGIN_UNTIL_S = 60.0
"""No sending begins later than that after the process began, so that it ends within RUN_AT_MOST_S."""
WAIT_AT_MOST_S = 100.0
_LOOK_S = 0.2
_PYTHON = (sys.executable, "-E", "-P", "-m")
_OUTPUT_BYTES = 1024 * 1024
INSTALL = f"{shlex.quote(sys.executable)} -m pip install apprise"
NOT_INSTALLED = "Apprise is not installed"
_WHY = {NO_APPRISE: NOT_INSTALLED, UNKNOWN_URL: "Apprise does not know this kind of URL"}


def send_due(experiment: Experiment, settings: Settings, environ: Mapping[str, str], *, is_last_try: bool) -> None:
    """Send what is due; returns at once if another process is sending.

    Each notification is marked as sent right after it was: sent twice only if a kill falls in between.
    """
    targets, journal = targets_of(settings), Journal(experiment)
    with locked(experiment):
        if journal.read().is_sending(time.time()):
            return
        journal.append(began(time.time()))
    until = time.monotonic() + BEGIN_UNTIL_S
    failing = journal.failing(targets)
    try:
        # Those that could be reached come first: what hangs must not take their time.
        for target in sorted(targets, key=lambda target: target.label in failing):
            due = journal.due(target, now=time.time(), is_last_try=is_last_try)
            _send_all(experiment, journal, target, due, environ=environ, until=until)
    finally:
        with locked(experiment):
            journal.append(Ended(time.time()))


def _send_all(
    experiment: Experiment,
    journal: Journal,
    target: Target,
    due: list[Notification],
    *,
    environ: Mapping[str, str],
    until: float,
) -> None:
    """Send these to the target, until one fails."""
    for notification in due:
        if time.monotonic() >= until:
            return
        why = send(target, notification, environ=environ, cwd=experiment.root)
        now = time.time()
        with locked(experiment):
            journal.append(Sent(notification.id, target.name, now) if why is None else failed(target, why, now))
        if why is not None:
            return


def what_to_do(why: str) -> str:
    """What to do about a notification that could not be sent."""
    if why == NOT_INSTALLED:
        return f"To install it: {INSTALL}; notifications are kept until then"
    return "Kept, and sent by the next monitor job or command that can, e.g. evalmon status on a login node"


def send(target: Target, notification: Notification, *, environ: Mapping[str, str], cwd: str) -> str | None:
    """Send it; None if it was sent, else why not. What the program printed is dropped: it may hold the URL."""
    if target.notify is not None:
        argv = [*_PYTHON, "evalmon_agent.notify.send"]
        stdin = _message(target.notify.url, notification)
    else:
        argv, stdin = list(target.command), msgspec.json.encode(notification) + b"\n"
    done = commands.run(
        argv,
        timeout_s=SEND_AT_MOST_S,
        env=environ,
        cwd=cwd,
        max_output_bytes=_OUTPUT_BYTES,
        dies_with_us=True,
        stdin=stdin,
    )
    if done.ok:
        return None
    if done.timed_out:
        return f"it did not end within {SEND_AT_MOST_S:.0f} s"
    if done.cut:
        return "it printed more than 1 MiB"
    if done.returncode is None:
        return done.problem
    if target.notify is not None:
        return _WHY.get(done.returncode, "Apprise could not send it")
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
    return f"it ended with {how}"


def _message(url: str, notification: Notification) -> bytes:
    name = os.path.basename(notification.experiment)
    text = f"{notification.text}\nExperiment: {notification.experiment}"
    message = {"url": url, "title": f"{name}: {notification.title}", "text": text, "level": notification.level}
    return json.dumps(message).encode()


class Notifier:
    """Starts the sending process of one observer, one at a time."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.journal = Journal(experiment)
        self._child: commands.Background | None = None

    def failing(self, targets: Sequence[Target]) -> dict[str, str]:
        """Why sending to some of the targets fails now, by label."""
        return self.journal.read().failing(targets)

    def start_if_due(self, session: Session, *, is_last_try: bool = False) -> bool:
        """Start a process that sends what is due, if there is anything; whether one is at work now."""
        targets = targets_of(session.settings)
        if not targets:
            return False
        now, journal = time.time(), self.journal.read()
        if self._is_running() or journal.is_sending(now):
            return True
        is_to_stop = session.slurm.stopped is not None and session.slurm.stopped()
        if is_to_stop or not any(journal.due(target, now=now, is_last_try=is_last_try) for target in targets):
            return False
        program = [*_PYTHON, "evalmon_agent", "notify"]
        options = ["--last-try"] if is_last_try else []
        options += ["--experiment-id", self._experiment.id] if self._experiment.id is not None else []
        with suppress(OSError):
            argv = [*program, *options, "--", self._experiment.root]
            self._child = commands.Background(argv, env=session.environ)
        return self._is_running()

    def _is_running(self) -> bool:
        return self._child is not None and self._child.is_running()

    def finish(self, session: Session, pause: Callable[[float], None], *, at_most_s: float = WAIT_AT_MOST_S) -> None:
        """Before this job ends: try once more to send what is left, and wait for that, but not for ever.

        `pause` raises StoppedError once this process is to stop; what is not sent then is left to the next observer.
        """
        if not targets_of(session.settings):
            return
        until = time.monotonic() + min(at_most_s, WAIT_AT_MOST_S)

        def wait() -> None:
            while (self._is_running() or self.journal.read().is_sending(time.time())) and time.monotonic() < until:
                pause(_LOOK_S)

        try:
            wait()
            if time.monotonic() < until and self.start_if_due(session, is_last_try=True):
                wait()
        except StoppedError:
            pass
        if self._child is not None and self._is_running():
            self._child.end()
