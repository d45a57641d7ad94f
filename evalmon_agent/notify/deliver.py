"""Sends what notifications.jsonl says is still to be sent, one notification and one target at a time.

The journal has what happened, who is to be told, what was sent and what failed. An observer starts `evalmon notify EXP`
to send what is due, and does not wait for it. Each notification is sent by a program of its own with a time limit: a
target that hangs delays no other for long.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from evalmon_agent.errors import EvalmonError, StoppedError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.files.lock import parse_holder, this_host, this_process
from evalmon_agent.files.private import append_line, read_private, size_of
from evalmon_agent.notify.send import NO_APPRISE, UNKNOWN_URL
from evalmon_agent.session import Session
from evalmon_agent.settings import NotifyTarget, Settings
from evalmon_agent.slurm import commands
from evalmon_agent.summary.notifications import Notification
from evalmon_agent.tracking.records import Outbox

MAX_BYTES = 64 * 1024 * 1024
RUN_AT_MOST_S = 120.0
"""A sending process ends itself after that."""
_CLOCKS_DIFFER_S = 600.0
_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 1800.0
_COMMAND = "notify_command"
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


class Target(Struct, frozen=True):
    """Who is to be told. `name`: the setting, by which the journal knows it; `label`: for people, without the URL."""

    name: str
    label: str
    notify: NotifyTarget | None = None
    command: Sequence[str] = ()


def targets_of(settings: Settings) -> list[Target]:
    """All targets of these settings."""
    targets = []
    for number, given in enumerate(settings.notify):
        notify = NotifyTarget(given) if isinstance(given, str) else given
        scheme, colon, _ = notify.url.partition("://")
        label = f" ({scheme.lower()})" if colon and scheme.isascii() and scheme.isalnum() else ""
        targets.append(Target(f"notify[{number}]", f"notify[{number}]{label}", notify))
    if settings.notify_command is not None:
        targets.append(Target(_COMMAND, _COMMAND, command=settings.notify_command))
    return targets


class Occurred(Struct, frozen=True, tag="event"):
    """Something happened; `to`: the names of the targets that are to be told."""

    notification: Notification
    to: list[str]


class Sent(Struct, frozen=True, tag="sent"):
    """A notification was sent."""

    id: str
    to: str
    at: float


class Failed(Struct, frozen=True, tag="failed"):
    """A target could not be told, and why; `host`: seen from where."""

    to: str
    at: float
    host: str
    why: str


class Began(Struct, frozen=True, tag="began"):
    """A sending process began; `by`: its pid, host and start."""

    by: str
    at: float


class Ended(Struct, frozen=True, tag="ended"):
    """The sending process ended."""

    at: float


Record = Occurred | Sent | Failed | Began | Ended
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Failing(Struct, frozen=True):
    """A target that cannot be told now: the last failure, and how many there were in a row."""

    last: Failed
    times: int

    def pauses_at(self, now: float) -> bool:
        """Whether it is too early to try again from this host; what one host cannot reach another may."""
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(self.times - 1, 10), _LONGEST_PAUSE_S)
        return self.last.host == this_host() and 0 <= now - self.last.at < pause_s


class Journal:
    """notifications.jsonl of one experiment, read again only when it has grown. A torn line is skipped."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._size = 0
        self._begin()

    def _begin(self) -> None:
        self._waiting: dict[tuple[str, str], Notification] = {}
        self._ids: set[str] = set()
        self._failing: dict[str, Failing] = {}
        self._began: Began | None = None

    def read(self) -> Journal:
        """Bring it up to date; what cannot be read counts as empty."""
        path = self._experiment.notifications
        data: bytes | None = b""
        with suppress(OSError, EvalmonError):
            size = size_of(path)
            if size == self._size:
                return self
            data = read_private(path, max_bytes=MAX_BYTES)
        self._begin()
        self._size = len(data or b"")
        for line in (data or b"").split(b"\n"):
            with suppress(msgspec.DecodeError, RecursionError):
                self._take(_decoder.decode(line))
        return self

    def _take(self, record: Record) -> None:
        if isinstance(record, Occurred):
            if record.notification.id not in self._ids:
                self._waiting |= {(record.notification.id, name): record.notification for name in record.to}
                self._ids.add(record.notification.id)
        elif isinstance(record, Sent):
            self._waiting.pop((record.id, record.to), None)
            self._failing.pop(record.to, None)
        elif isinstance(record, Failed):
            before = self._failing.get(record.to)
            self._failing[record.to] = Failing(record, 1 if before is None else before.times + 1)
        else:
            self._began = record if isinstance(record, Began) else None

    def waiting(self, target: Target) -> list[Notification]:
        """What the target is still to be told, oldest first."""
        return [notification for (_, name), notification in self._waiting.items() if name == target.name]

    def due(self, target: Target, *, now: float, is_last_try: bool = False) -> list[Notification]:
        """What the target is to be told now; `is_last_try`: even if it failed just before.

        In its quiet hours nothing, until the experiment is complete: nobody may run afterwards to send the rest.
        """
        waiting, failing = self.waiting(target), self._failing.get(target.name)
        if failing is not None and failing.pauses_at(now) and not is_last_try:
            return []
        is_over = any(notification.event == "complete" for notification in waiting)
        quiet = target.notify.quiet if target.notify is not None else None
        return [] if quiet is not None and not is_over and is_within(quiet, now) else waiting

    def failing(self, targets: Iterable[Target]) -> dict[str, str]:
        """Why sending to some of the targets fails now, by label."""
        return {t.label: self._failing[t.name].last.why for t in targets if t.name in self._failing}

    def is_sending(self, now: float) -> bool:
        """Whether another process sends; one on another host counts as killed once it should have ended."""
        if self._began is None:
            return False
        holder = parse_holder(self._began.by.encode())
        if holder is not None and holder.is_here:
            return not holder.is_gone
        return 0 <= now - self._began.at < RUN_AT_MOST_S + _CLOCKS_DIFFER_S

    def append(self, *records: Record) -> None:
        """Write the records; call it under the lock."""
        append_line(self._experiment.notifications, encode(records))

    def outbox(
        self, owed: Outbox | None, notifications: Iterable[Notification], targets: Sequence[Target]
    ) -> Outbox | None:
        """What is still to be appended to the journal: `owed`, left from an earlier save, then these notifications."""
        events = (Occurred(notification, _recipients(notification, targets)) for notification in notifications)
        text = encode(event for event in events if event.to).decode()
        if owed is not None or not text:
            return owed if owed is None else Outbox(owed.offset, owed.text + text)
        # The newline ends a torn line, which a kill may have left.
        return Outbox(size_of(self._experiment.notifications), "\n" + text)


def _recipients(notification: Notification, targets: Iterable[Target]) -> list[str]:
    return [t.name for t in targets if t.notify is None or notification.event in t.notify.events]


def encode(records: Iterable[Record]) -> bytes:
    """The records as lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def began(now: float) -> Began:
    """This process begins to send."""
    return Began(this_process().text.decode(), now)


def is_within(hours: str, now: float) -> bool:
    """Whether this host's local time lies in `22:00-07:00`; two equal times mean the whole day."""
    first, _, last = hours.partition("-")
    time = f"{dt.datetime.fromtimestamp(now).astimezone():%H:%M}"
    return first <= time < last if first < last else time >= first or time < last


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
            for notification in journal.due(target, now=time.time(), is_last_try=is_last_try):
                if time.monotonic() >= until or not _send_and_note(experiment, journal, target, notification, environ):
                    break
    finally:
        with locked(experiment):
            journal.append(Ended(time.time()))


def _send_and_note(
    experiment: Experiment, journal: Journal, target: Target, notification: Notification, environ: Mapping[str, str]
) -> bool:
    """Send it, and note what came of it; whether it was sent."""
    why = send(target, notification, environ=environ, cwd=experiment.root)
    now = time.time()
    with locked(experiment):
        journal.append(
            Sent(notification.id, target.name, now) if why is None else Failed(target.name, now, this_host(), why)
        )
    return why is None


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
