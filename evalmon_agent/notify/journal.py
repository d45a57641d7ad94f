"""Reads and appends to notifications.jsonl: what happened, who is to be told, what was sent and what failed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from evalmon_agent.errors import EvalmonError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.lock import parse_holder, this_host, this_process
from evalmon_agent.files.private import append_line, read_private, size_of
from evalmon_agent.settings import NotifyTarget, Settings
from evalmon_agent.summary.notifications import Notification
from evalmon_agent.tracking.records import Outbox

MAX_BYTES = 64 * 1024 * 1024
RUN_AT_MOST_S = 120.0
"""A sending process ends itself after that."""
_CLOCKS_DIFFER_S = 600.0
_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 1800.0
_COMMAND = "notify_command"


@dataclass(frozen=True, slots=True)
class Target:
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


@dataclass(frozen=True, slots=True)
class Failing:
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
        """Whether another process sends; of one on another host only time tells that it was killed."""
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
        """What the journal must still get: these notifications, after what it is `owed`."""
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


def failed(target: Target, why: str, now: float) -> Failed:
    """The target could not be told from here."""
    return Failed(target.name, now, this_host(), why)


def is_within(hours: str, now: float) -> bool:
    """Whether this host's local time lies in `22:00-07:00`; two equal times mean the whole day."""
    first, _, last = hours.partition("-")
    time = f"{dt.datetime.fromtimestamp(now).astimezone():%H:%M}"
    return first <= time < last if first < last else time >= first or time < last
