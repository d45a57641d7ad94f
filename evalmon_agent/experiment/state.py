"""Loads and saves state.json, and observer.json, the observer's heartbeat.

A state.json that cannot be read is set aside, and what it knew is recovered from the log. Losing observer.json only
causes one early poll.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Literal

import msgspec

from evalmon_agent.errors import UnreadableError, UsageError
from evalmon_agent.experiment import versioned
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.private import opened, read_private
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.tracking.blocks import Block, BlockKind, blocks_in, transition
from evalmon_agent.tracking.records import SCHEMA, ExperimentState, Logged, MonitorJob, Recovered
from evalmon_agent.tracking.registry import Entry, Registration, has_registration, unregistered
from evalmon_agent.tracking.timeline import Event
from evalmon_agent.tracking.tracker import Facts, Tracker
from evalmon_agent.words.job_id import JobId

# 10,000 evals take 5 MB.
MAX_BYTES = 200 * 1024 * 1024
_ANY_SIZE = 1 << 40

# Of another user's state. What stands between two commas takes up to 300 bytes once it is decoded; 100 such values
# are much for one eval, and so are 10 KB.
_FOREIGN_VALUES = 2_000_000
_FOREIGN_EVALS = 20_000
_FOREIGN_BYTES_PER_1000_EVALS = 10 * 1000 * 1000

HEARTBEAT_SCHEMA = 1
_HEARTBEAT_BYTES = 64 * 1024

Role = Literal["sidecar", "completion", "command"]
Version = tuple[int, int, int]


class Heartbeat(msgspec.Struct):
    """The present observer. Times are epoch seconds on its host; `polls` counts those of all observers."""

    role: Role
    host: str
    pid: int
    job_id: JobId | None = None
    started_at: float = 0.0
    polled_at: float = 0.0
    poll_interval_s: float = 60.0
    polls: int = 0
    failed_polls: int = 0
    last_error: str | None = None
    schema: int = HEARTBEAT_SCHEMA


_decoder = msgspec.json.Decoder(ExperimentState)
_heartbeat_decoder = msgspec.json.Decoder(Heartbeat)


class Held:
    """The state held by one process, with the version of state.json that has the same content.

    `set_aside`: the new name of a state.json that could not be read, if there was one. What a lost state knew
    comes back from the registry, the self-reports, Slurm and the log; `logged_completions` are the completion jobs
    that the log has then. `entries`: those of the registry that the state has taken in.
    """

    def __init__(self, experiment: Experiment, state: ExperimentState, version: Version | None) -> None:
        self._path = experiment.state
        self._version = version
        self._saved = _without_evals(state) if version is not None else b""
        self.state = state
        self.set_aside: str | None = None
        self.logged_completions: frozenset[str] = frozenset()
        self.entries: Sequence[Entry] = ()
        # The registry's entries that `unregistered` has looked at, and what they have that the state lacks.
        self._entries: Sequence[Entry] = ()
        self._unregistered: list[Registration] = []

    @cached_property
    def tracker(self) -> Tracker:
        """What takes facts into the state; made when there are some, since it looks at every eval."""
        return Tracker(self.state)

    @property
    def is_tracked(self) -> bool:
        """Whether the tracker is made, so that its tables are filled."""
        return "tracker" in vars(self)

    def unregistered(self, entries: Sequence[Entry]) -> list[Registration]:
        """What these entries of the registry have that the state lacks; only new entries are looked at."""
        new = [e for n, e in enumerate(entries) if n >= len(self._entries) or e is not self._entries[n]]
        before = [r for r in self._unregistered if not has_registration(self.state, r)]
        self._entries, self._unregistered = entries, before + unregistered(new, self.state)
        return self._unregistered

    def take_in(self, facts: Facts, *, lost_after_s: float) -> list[Event]:
        """What happened by these facts; without any nothing has, since the state was saved by `take_in` as well.

        A changed `lost_after` counts from the next poll on.
        """
        if not facts and not self.is_tracked:
            return []
        self.tracker.apply(facts)
        return self.tracker.events(lost_after_s=lost_after_s)

    def is_current(self) -> bool:
        """Whether state.json is still the one that was last read or saved."""
        return self._version is not None and self._version == _version(self._path)

    def is_changed(self) -> bool:
        """Whether the state differs from the file."""
        return _without_evals(self.state) != self._saved or (self.is_tracked and self.tracker.is_changed())

    def save(self, *, mode: int = 0o600) -> None:
        """Replace state.json atomically. OSError: the file and `generation` are unchanged."""
        self.state.generation += 1
        # A tracker made here would have empty tables, as if nothing were owed.
        evals = self.tracker.encoded() if self.is_tracked else self.state.evals
        document = {**msgspec.structs.asdict(self.state), "evals": evals}
        try:
            replace_atomically(self._path, msgspec.json.encode(document), mode=mode)
        except OSError:
            self.state.generation -= 1
            raise
        self.is_saved()

    def is_saved(self) -> None:
        """Note that the file has the content of the state."""
        self._version, self._saved = _version(self._path), _without_evals(self.state)
        if self.is_tracked:
            self.tracker.is_saved()


def hold(experiment: Experiment, *, now: float) -> Held:
    """The state for a transaction, under the lock; an unreadable file is set aside, never overwritten.

    UnreadableError (78): another schema.
    """
    held = read(experiment)
    if held is not None:
        return held
    set_aside = _set_aside(experiment.state, now) if os.path.lexists(experiment.state) else None
    held = unsaved(experiment)
    held.set_aside = set_aside
    held.logged_completions = recover(held.state, blocks_in(_read_log(experiment.log)))
    return held


def unsaved(experiment: Experiment) -> Held:
    """A new, empty state, which is in no file yet."""
    return Held(experiment, ExperimentState(experiment=experiment.root), None)


def read(experiment: Experiment) -> Held | None:
    """The saved state, to continue with if it is still current once the lock is held; None if it cannot be read."""
    version = _version(experiment.state)
    state = load(experiment)
    if state is None:
        return None
    return Held(experiment, state, version)


def _version(path: str) -> Version | None:
    """Identifies a saved state: a replaced file has another inode. None: it cannot be opened.

    The file is opened for that: NFS answers a mere stat from its cache, for seconds after another host's save.
    """
    with suppress(OSError), opened(path) as (_, status):
        return status.st_mtime_ns, status.st_size, status.st_ino
    return None


def _without_evals(state: ExperimentState) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(state, evals={}))


def load(experiment: Experiment) -> ExperimentState | None:
    """The state as saved; None if there is none or it cannot be read. Takes no lock: saves are atomic.

    Another schema raises UnreadableError (78).
    """
    return versioned.load(experiment.state, _decoder, schema=SCHEMA, max_bytes=MAX_BYTES)


class LastSaved:
    """The state as last saved, for readers only; loaded again only if the file has changed."""

    def __init__(self) -> None:
        self._version: Version | None = None
        self._state: ExperimentState | None = None

    def load(self, experiment: Experiment) -> ExperimentState | None:
        """Like the function `load`."""
        version = _version(experiment.state)
        if version is None or version != self._version:
            self._state, self._version = load(experiment), version
        return self._state


def load_foreign(experiment: Experiment) -> ExperimentState | None:
    """Like `load`, for another user's experiment: whatever the file contains, memory and time are bounded.

    UnreadableError (78): it holds more than evals can need.
    """
    try:
        data = read_private(experiment.state, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return None
    if data is None:
        return None
    too_large = UnreadableError(f"{experiment.state}: holds more than its evals can need; it was not read")
    if data.count(b",") > _FOREIGN_VALUES:
        raise too_large
    state = versioned.decode(data, _decoder, path=experiment.state, schema=SCHEMA)
    if state is None:
        return None
    allowed_bytes = max(len(state.evals) / 1000, 1.0) * _FOREIGN_BYTES_PER_1000_EVALS
    if len(data) > allowed_bytes or len(state.evals) > _FOREIGN_EVALS:
        raise too_large
    return state


def _set_aside(path: str, now: float) -> str:
    aside = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}"
    if os.path.lexists(aside):
        aside += f"-{os.urandom(3).hex()}"
    os.rename(path, aside)
    return aside


def _read_log(path: str) -> str:
    try:
        data = read_private(path, max_bytes=_ANY_SIZE)
    except FileNotFoundError:
        return ""
    return "" if data is None else data.decode(errors="replace")


def recover(state: ExperimentState, log: Iterable[Block]) -> frozenset[str]:
    """Take the blocks of monitor.log, in order, into a new, empty state; returns the completion jobs that it names."""
    recovered = Recovered()
    completion_jobs = set()
    complete = False
    for block in log:
        changed = transition(block)
        if changed is not None:
            recovered.logged.setdefault(block.subject, []).append(Logged(*changed))
            complete = False
        elif block.kind is BlockKind.COMPUTE_METRICS and block.job_id is not None:
            recovered.measured.setdefault(block.subject, []).append(block.job_id)
        elif block.kind is BlockKind.COMPLETION_SUBMITTED and block.job_id is not None:
            completion_jobs.add(block.job_id)
        elif block.kind is BlockKind.ALL_COMPLETE:
            state.completions += 1
            complete = True
        elif block.kind is BlockKind.NOTIFICATION_FAILED:
            state.notified.failing.append(block.subject)
        elif block.kind is BlockKind.NOTIFICATION_RECOVERED and block.subject in state.notified.failing:
            state.notified.failing.remove(block.subject)
    state.recovered = recovered
    if complete:
        state.completion = MonitorJob(status="complete")
    return frozenset(completion_jobs)


def load_heartbeat(experiment: Experiment) -> Heartbeat | None:
    """The heartbeat; None if there is none, or it cannot be read. Another schema: UnreadableError (78)."""
    with suppress(OSError, UsageError):
        return versioned.load(
            experiment.observer, _heartbeat_decoder, schema=HEARTBEAT_SCHEMA, max_bytes=_HEARTBEAT_BYTES
        )
    return None


def save_heartbeat(experiment: Experiment, heartbeat: Heartbeat, *, mode: int = 0o600) -> None:
    """Replace observer.json atomically; call it under the lock."""
    replace_atomically(experiment.observer, msgspec.json.encode(heartbeat), mode=mode)
