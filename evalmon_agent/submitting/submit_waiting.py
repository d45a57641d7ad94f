"""Submits evals that wait for a free place in the queue, each once and in the right environment.

A waiting eval is planned on record (`Planned`), with a copy of its script; only its sbatch is missing. The intent is
recorded under the lock, where the free places are counted too, so two submitters never submit an eval twice or more
evals than allowed. If a submitter is killed in between, the next one looks for the job (`register.resolve`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from evalmon_agent.errors import SlurmUnavailableError
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.state import LastSaved
from evalmon_agent.jobs import register
from evalmon_agent.jobs.eval_scripts import change_since
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.session import Session
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import carried, for_evals, is_same
from evalmon_agent.slurm.sbatch import Submitted
from evalmon_agent.tracking import blocks
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry, Submission, in_queue, waiting
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.sizes import counted

Role = Literal["submitting", "looking", "monitor job"]
"""What this process is: a command that submits, another command, the sidecar or the completion job."""
Why = Literal["nothing waits", "room", "stagger", "limit", "stuck"]
"""Why it stopped. `room`, `stagger`: evalmon's settings; `limit`: the site's limit; `stuck`: sbatch cannot run here."""

_ASK_AGAIN_S = 300.0
"""How often the site's limit is tried again while none of the evals ends, since it may count other jobs too."""

_LOGGED = frozenset({"limit", "stuck"})


@dataclass(slots=True)
class Progress:
    """What was submitted, with its job id, what Slurm refused, and why the rest still waits.

    `changes`: how the script of a submitted eval has changed since it was planned, by token.
    """

    submitted: list[tuple[Submission, JobId]] = field(default_factory=list)
    refused: list[tuple[Submission, Submitted]] = field(default_factory=list)
    changes: dict[str, str] = field(default_factory=dict)
    why: Why = "nothing waits"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Full:
    """The site took no more: its message, and how many evals were in the queue then."""

    message: str
    in_queue: int
    at_monotonic_s: float


@dataclass(slots=True)
class Submitter:
    """Submits for one process. `sleep` returns True if a signal cut it short.

    A monitor job, where sbatch may be forbidden, submits with the environment that it carries, which may be lost;
    `submit` and `retry` with their own, which is the right one; another command only what is to have its environment.
    """

    session: Session
    role: Role
    sleep: Callable[[float], object] = time.sleep
    _forbidden: str = ""
    _full: _Full | None = None
    _saved: LastSaved = field(default_factory=LastSaved)
    _environ: Mapping[str, str] | None = field(init=False)

    def __post_init__(self) -> None:
        environ = self.session.environ
        self._environ = carried(environ) if self.role == "monitor job" else for_evals(environ)

    @property
    def is_full(self) -> bool:
        """Whether the site took no more when it was last asked."""
        return self._full is not None

    def run(self, *, until_monotonic_s: float = 0.0, at_most: float = math.inf) -> Progress:
        """Submit what there is room for, and what becomes due by then. Does not raise if Slurm does not answer."""
        progress = Progress()
        ledger = self.session.experiment.ledger
        if not any(map(self._is_of_interest, ledger.entries())):
            return progress
        try:
            register.resolve(self.session, sleep=self.sleep)
        except SlurmUnavailableError as error:
            return _because(progress, "room", str(error))
        full = self._full
        if full is not None and self._is_still(full):
            return _because(progress, "limit", full.message)
        self._full = None
        while True:
            left = waiting(ledger.entries())
            mine = [entry.submission for entry in left if self._is_for_us(entry)]
            if not mine or self._forbidden:
                return self._nothing_to_do_here(progress, left)
            # Whether each still waits is checked under the lock; listing all of them anew each time would be slow.
            with progress_bar("Submitting", len(mine)) as show:
                for number, submission in enumerate(mine, 1):
                    goes_on = self._submit_next(submission, progress, until_monotonic_s=until_monotonic_s)
                    if not goes_on or len(progress.submitted) >= at_most:
                        return progress
                    if self._forbidden:
                        break
                    show(number)

    def _is_for_us(self, entry: Entry) -> bool:
        """Whether an eval gets the environment that it was planned with."""
        if self._environ is None or entry.planned is None:
            return False
        return self.role == "submitting" or is_same(self._environ, entry.planned.environment)

    def _is_of_interest(self, entry: Entry) -> bool:
        """Whether it waits, or its job must be looked for; a command that submits has looked for it already."""
        is_planned = entry.planned is not None and entry.accepted is None
        return is_planned or (entry.is_open and entry.is_eval and self.role != "submitting")

    def _submit_next(self, submission: Submission, progress: Progress, *, until_monotonic_s: float) -> bool:
        """Submit one eval as soon as `stagger` allows; returns whether to go on with the next one."""
        settings = self.session.settings
        while (claimed := register.claim_evals(self.session, submission, saved=self._saved)) == "too soon":
            pause_s = register.seconds_to_wait(self.session)
            if time.monotonic() + pause_s > until_monotonic_s:
                _because(progress, "stagger", f"stagger: {settings.stagger:g} s")
                return False
            if self.sleep(max(pause_s, 0.01)):
                return False
        if claimed == "no room":
            most = settings.max_submit or 0
            if submission.size > most:
                array = f"{submission.name}: an array of {submission.size} evals"
                _because(progress, "stuck", f"{array}, and max_submit: {most} leaves no room for it")
            else:
                _because(progress, "room", f"max_submit: {most}")
            return False
        if claimed != "claimed":
            return True
        return self._submit_claimed(submission, progress)

    @register.uninterrupted()
    def _submit_claimed(self, submission: Submission, progress: Progress) -> bool:
        """Submit one eval that this process has claimed; returns whether to go on with the next one."""
        script = scripts.read_script(self.session.experiment, submission.token, submission.script)
        change = change_since(submission.script, script or b"")
        if change:
            progress.changes[submission.token] = change
        session = replace(self.session, slurm=Slurm(self._environ or {}))
        outcome = register.submit(session, submission, elsewhere=self.role == "monitor job")
        return self._take_outcome(submission, outcome, progress)

    def _take_outcome(self, submission: Submission, outcome: Submitted, progress: Progress) -> bool:
        """Note what sbatch did; returns whether to go on with the next eval."""
        if outcome.job_id is not None:
            progress.submitted.append((submission, outcome.job_id))
            return True
        if outcome.is_full:
            self._full = _Full(outcome.refusal, self._evals_in_queue(), time.monotonic())
        if outcome.is_full or outcome.unknown:
            _because(progress, "limit" if outcome.is_full else "room", outcome.refusal)
            return False
        if outcome.waits:
            self._forbidden = outcome.refusal
            return True
        progress.refused.append((submission, outcome))
        return True

    def _is_still(self, full: _Full) -> bool:
        """Whether no eval has ended since; every five minutes it is tried anyway, as other jobs may have made room."""
        is_recent = time.monotonic() - full.at_monotonic_s < _ASK_AGAIN_S
        return is_recent and self._evals_in_queue() >= full.in_queue

    def _evals_in_queue(self) -> int:
        entries = self.session.experiment.ledger.entries()
        return in_queue(entries, self._saved.load(self.session.experiment))

    def _nothing_to_do_here(self, progress: Progress, left: Sequence[Entry]) -> Progress:
        if not left:
            return _because(progress, "nothing waits", "")
        if self._forbidden:
            return _because(progress, "stuck", f"sbatch is refused here: {self._forbidden}")
        return _because(progress, "stuck", "their environment is not available here")


def log_progress(observer: Observer, progress: Progress) -> ExperimentState:
    """Record what was submitted, and log one block if the site's limit or this place makes the rest wait.

    A further block for each eval whose script has changed since it was planned: it was submitted as planned.
    """
    if progress.why == "nothing waits" and not progress.submitted:
        return observer.record()

    def new_blocks(state: ExperimentState, now: float) -> list[list[str]]:
        changed = [
            _changed(submission.name, progress.changes[submission.token], now)
            for submission, _ in progress.submitted
            if submission.token in progress.changes
        ]
        if not state.waiting or progress.why not in _LOGGED or state.waiting_for == progress.detail:
            return changed
        state.waiting_for = progress.detail
        return [*changed, _block(state, progress, now)]

    observer.record()
    return observer.transact(new_blocks)


def _block(state: ExperimentState, progress: Progress, now: float) -> list[str]:
    subject = f"{counted(len(state.waiting), 'evaluation')} not submitted yet"
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
