"""Submits the evals that wait for room: whoever polls does, each eval once and in the right environment.

An eval waits on record (`Planned`), its script lies there; what is missing is its sbatch. Before that its intent is
on record under the lock, where it is also seen whether there is room: two at once submit nothing twice and never
more than allowed, and one that was killed in between is resolved by looking for its job, as ever.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalmon_agent.errors import SlurmUnavailableError
from evalmon_agent.experiment.state import LastSaved
from evalmon_agent.jobs import claims, register
from evalmon_agent.jobs.claims import Room
from evalmon_agent.jobs.eval_scripts import change_since, prepared
from evalmon_agent.logbook import blocks
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import carried, for_evals, is_same
from evalmon_agent.submission.launcher import script_in
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry, Submission
from evalmon_agent.tracking.unsubmitted import in_queue, waiting
from evalmon_agent.words.job_id import JobId

Sleep = Callable[[float], object]
Why = Literal["nothing waits", "room", "stagger", "limit", "stuck"]
"""Why it stopped. `room`, `stagger`: by our own settings; `limit`: by the site's; `stuck`: it cannot be done here."""

_ASK_AGAIN_S = 300.0
"""How often the site's own limit is tried while none of the evals ends: it may count other jobs."""

_GONE = "the script that was to be submitted is gone from EXP/evalmon/scripts"

_IS_TOLD = frozenset({"limit", "stuck"})


@dataclass(slots=True)
class Progress:
    """What was submitted, with its job id, what Slurm refused, and why the rest waits on.

    `changes`: of which of the submitted, by their tokens, the script has changed since they were planned.
    """

    submitted: list[tuple[Submission, JobId]] = field(default_factory=list)
    refused: list[tuple[Submission, register.Outcome]] = field(default_factory=list)
    changes: dict[str, str] = field(default_factory=dict)
    why: Why = "nothing waits"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """From where the waiting evals are submitted.

    `environ`: the environment that they get from here; None where it is gone. `any_environment`: the user calls a
    command that submits, so this is the right one. `is_job`: in a monitor job, where sbatch may be forbidden.
    """

    environ: Mapping[str, str] | None
    any_environment: bool = False
    is_job: bool = False

    def is_for(self, entry: Entry) -> bool:
        """Whether an eval gets the environment that it was planned with."""
        if self.environ is None or entry.planned is None:
            return False
        return self.any_environment or is_same(self.environ, entry.planned.environment)


def in_monitor_job(environ: Mapping[str, str]) -> Place:
    """The sidecar and the completion job: what they carry."""
    return Place(carried(environ), is_job=True)


def on_command(environ: Mapping[str, str], *, submits: bool) -> Place:
    """A command: `submits`, as submit and retry do; one that only looks submits where the environment is the same."""
    return Place(for_evals(environ), any_environment=submits)


@dataclass(frozen=True, slots=True)
class _Full:
    """The site took no more: its words, and how many evals were there. `at`: monotonic seconds."""

    words: str
    there: int
    at: float


@dataclass(slots=True)
class Submitter:
    """Submits for one process. `sleep` says True where a signal cut it short."""

    session: Session
    place: Place
    sleep: Sleep = time.sleep
    _forbidden: str = ""
    _full: _Full | None = None
    _saved: LastSaved = field(default_factory=LastSaved)

    @property
    def is_full(self) -> bool:
        """Whether the site took no more when it was last asked."""
        return self._full is not None

    def run(self, *, until: float = 0.0, at_most: float = math.inf) -> Progress:
        """Submit what there is room for, and what becomes due by `until` (epoch). Never raises for Slurm's silence."""
        progress = Progress()
        ledger = self.session.experiment.ledger
        if not any(map(self._is_of_interest, ledger.entries())):
            return progress
        try:
            register.resolve(self.session.experiment, self.session.slurm, sleep=self.sleep)
        except SlurmUnavailableError as error:
            return _because(progress, "room", str(error))
        if self._full is not None and self._is_still_full():
            return _because(progress, "limit", self._full.words)
        self._full = None
        while True:
            left = waiting(ledger.entries())
            mine = [entry.submission for entry in left if self.place.is_for(entry)]
            if not mine or self._forbidden:
                return self._nothing_to_do_here(progress, left)
            # Whether they still wait is seen under the lock: to look through all for each takes too long.
            for submission in mine:
                if self._is_over_after(submission, progress, until=until) or len(progress.submitted) >= at_most:
                    return progress
                if self._forbidden:
                    break

    def _is_of_interest(self, entry: Entry) -> bool:
        """Whether it waits, or is to be looked for. A command that submits has looked already, and leaves its own."""
        is_planned = entry.planned is not None and entry.accepted is None
        return is_planned or (entry.is_open and entry.is_eval and not self.place.any_environment)

    def _is_over_after(self, submission: Submission, progress: Progress, *, until: float) -> bool:
        """Submit one, once it is time for it; True if that is all for now."""
        room = Room(self.session.settings.max_submit, self.session.settings.stagger, self._saved)
        while (claimed := claims.claim_evals(self.session.experiment, submission, room)) == "too soon":
            pause_s = claims.seconds_to_wait(self.session.experiment.ledger.index(), room.stagger_s, now=time.time())
            if time.time() + pause_s > until:
                _because(progress, "stagger", f"stagger: {room.stagger_s:g} s")
                return True
            if self.sleep(max(pause_s, 0.01)):
                return True
        if claimed == "no room":
            most = room.max_submit or 0
            if submission.size > most:
                array = f"{submission.name}: an array of {submission.size} evals"
                _because(progress, "stuck", f"{array}, and max_submit: {most} leaves no room for it")
            else:
                _because(progress, "room", f"max_submit: {most}")
            return True
        if claimed != "claimed":
            return False
        job = prepared(self.session.experiment, submission)
        if job is None:
            progress.refused.append((submission, register.refuse(self.session.experiment, submission.token, _GONE)))
            return False
        slurm = Slurm(self.place.environ or {})
        change = change_since(submission.script, script_in(job.content) or b"")
        if change:
            progress.changes[submission.token] = change
        outcome = register.submit(self.session.experiment, slurm, job, elsewhere=self.place.is_job)
        return self._is_over_with(submission, outcome, progress)

    def _is_over_with(self, submission: Submission, outcome: register.Outcome, progress: Progress) -> bool:
        if outcome.job_id is not None:
            progress.submitted.append((submission, outcome.job_id))
            return False
        if outcome.limit:
            self._full = _Full(outcome.refusal, self._there(), time.monotonic())
        if outcome.limit or outcome.unknown:
            _because(progress, "limit" if outcome.limit else "room", outcome.refusal)
            return True
        if self.place.is_job:
            self._forbidden = outcome.refusal
            return False
        progress.refused.append((submission, outcome))
        return False

    def _is_still_full(self) -> bool:
        """Whether no eval has ended since; now and then it is tried anyway, for other jobs may have made room."""
        full = self._full
        return full is not None and self._there() >= full.there and time.monotonic() - full.at < _ASK_AGAIN_S

    def _there(self) -> int:
        found = self.session.experiment.ledger.entries()
        return in_queue(found, self._saved.load(self.session.experiment))

    def _nothing_to_do_here(self, progress: Progress, left: Sequence[Entry]) -> Progress:
        if not left:
            return _because(progress, "nothing waits", "")
        if self._forbidden:
            return _because(progress, "stuck", f"sbatch is refused here: {self._forbidden}")
        return _because(progress, "stuck", "the environment that they are to have is not here")


def tell(observer: Observer, progress: Progress) -> ExperimentState:
    """Take in what was submitted; one block when the site's limit, or this place, makes the rest wait.

    And one for each that ran as it was planned though its script has changed since.
    """
    if progress.why == "nothing waits" and not progress.submitted:
        return observer.record()

    def told(state: ExperimentState, now: float) -> list[list[str]]:
        changed = [
            _changed(submission.name, progress.changes[submission.token], now)
            for submission, _ in progress.submitted
            if submission.token in progress.changes
        ]
        if not state.waiting or progress.why not in _IS_TOLD or state.waiting_for == progress.detail:
            return changed
        state.waiting_for = progress.detail
        return [*changed, _block(state, progress, now)]

    observer.record()
    return observer.transact(told)


def _block(state: ExperimentState, progress: Progress, now: float) -> list[str]:
    number = len(state.waiting)
    subject = f"{number} evaluation{'s' * (number != 1)} not submitted yet"
    if progress.why == "limit":
        fields = {"Reason": progress.detail, "Action": "Each is submitted once there is room for it"}
        return blocks.note(now, BlockKind.SUBMISSION_WAITS, subject, fields)
    action = f"Run, with their environment set up: evalmon submit {state.experiment}"
    return blocks.note(now, BlockKind.ALERT, subject, {"Reason": progress.detail, "Action": action})


def _changed(name: str, change: str, now: float) -> list[str]:
    return blocks.note(
        now, BlockKind.ALERT, name, {"Reason": change, "Action": "To run the changed script: evalmon retry"}
    )


def _because(progress: Progress, why: Why, detail: str) -> Progress:
    progress.why, progress.detail = why, " ".join(detail.split())
    return progress
