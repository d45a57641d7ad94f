"""Makes one poll, the same for the sidecar, the completion job and every command that looks.

Is a poll due? (lock, look, mark, unlock) -> ask Slurm (no lock held) -> lock, load, fold, save, append the
log, unlock. The state is saved with the blocks that are to be logged, then they are appended: the next process
that loads it completes what a kill cut off, so no block is lost or doubled.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from evalmon_agent.errors import UsageError
from evalmon_agent.experiment import reports
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked, locked_on_proof
from evalmon_agent.experiment.state import Heartbeat, Held, Role
from evalmon_agent.files.lock import WAIT_S
from evalmon_agent.files.private import complete, cut_torn, size_of
from evalmon_agent.files.replace import sweep
from evalmon_agent.monitor import log_blocks
from evalmon_agent.notify.deliver import Notifier, targets_of
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import IDS_PER_CALL
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.slurm.failures import Failure, FailureKind
from evalmon_agent.summary.build import build
from evalmon_agent.summary.notifications import EvalFailure, notifications
from evalmon_agent.tracking import blocks
from evalmon_agent.tracking.records import AccountAnswer, ExperimentState, Measurement, Outbox, QueueAnswer
from evalmon_agent.tracking.registry import Entry, update_presence
from evalmon_agent.tracking.timeline import EndedAttempt, unmeasured
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

Block = list[str]
_EARLY = 0.9
"""A poll is due after this part of the interval: timers are not exact."""
MAX_BACK_OFF_S = 600.0
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Observed:
    """The result of an observation.

    `asked`: whether Slurm was asked; `queue`: what squeue said, if it did.
    """

    state: ExperimentState
    asked: bool
    queue: QueueAnswer | None = None


class Observer:
    """Observes one experiment for one process."""

    def __init__(
        self,
        session: Session,
        *,
        role: Role,
        lock_wait_s: float = WAIT_S,
    ) -> None:
        self.session = session
        self.experiment = session.experiment
        self.slurm = session.slurm
        self._clock = session.clock
        self._wait_s = lock_wait_s
        self._me = Heartbeat(
            role,
            socket.gethostname(),
            os.getpid(),
            own_job_id(os.environ),
            started_at=session.clock(),
            poll_interval_s=session.settings.poll_interval,
        )
        self._uncounted = 0
        self._held: Held | None = None
        self._of_another: Held | None = None
        self.notifier = Notifier(session.experiment)
        self._mode_set: int | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the present session."""
        return self.session.settings

    def now(self) -> float:
        """Epoch seconds by this observer's clock."""
        return self._clock()

    @property
    def mode(self) -> int:
        """The mode of the files that evalmon writes."""
        return 0o640 if self.settings.group_readable else 0o600

    def observe_once(self, *, at_least_s: float | None = None, extra: Sequence[Block] = ()) -> Observed:
        """Poll if the last one is at least `at_least_s` ago (default: a poll interval); log what happened.

        `extra` blocks are logged in the same transaction, before those of the poll.
        """
        wait_s = self.settings.poll_interval * _EARLY if at_least_s is None else at_least_s
        if not self._mark_poll(wait_s):
            return Observed(self.record(extra=extra), asked=False)
        held = self._let_go() or state_file.read(self.experiment) or state_file.unsaved(self.experiment)
        answers = self._ask(held)
        if answers.failure is not None:
            self.count_failure(answers.failure.line)
        return Observed(self._transact(answers, asked=held, extra=extra), asked=True, queue=answers.queue)

    def record(self, *, measurements: Sequence[Measurement] = (), extra: Sequence[Block] = ()) -> ExperimentState:
        """Take in the experiment's own files and `measurements`, without asking Slurm."""
        return self._transact(None, measurements=measurements, extra=extra)

    def transact(self, change: Callable[[ExperimentState, float], Sequence[Block]]) -> ExperimentState:
        """Change the state under the lock; the blocks that `change` returns are logged exactly once."""
        with locked_on_proof(self.experiment, self.slurm, wait_s=self._wait_s):
            now = self._clock()
            held = self._hold(now)
            self._save(held, [*log_blocks.set_aside(held, now), *change(held.state, now)])
        self.notifier.start_if_due(self.session)
        return held.state

    def saved_by_another(self) -> ExperimentState | None:
        """The state that another process has saved since this one last looked; None if none has."""
        latest = self._of_another or self._held
        if latest is None or latest.is_current():
            return None
        self._of_another = state_file.read(self.experiment)
        return self._of_another.state if self._of_another is not None else None

    def last_word(self, new: Sequence[Block]) -> None:
        """Log this in the opened directory, even if the experiment's path now leads to another one."""
        with locked(self.experiment, wait_s=self._wait_s, hurry=self.slurm.stopped, wherever_it_is=True):
            self._save(self._hold(self._clock()), list(new))

    def count_failure(self, error: str) -> None:
        """Count a failed poll in the heartbeat, now or (if that cannot be written) with the next poll."""
        self._uncounted += 1
        self._me.last_error = error
        with locked_on_proof(self.experiment, self.slurm, wait_s=self._wait_s):
            self._beat(state_file.load_heartbeat(self.experiment))

    def unmeasured(self, state: ExperimentState) -> Iterable[EndedAttempt]:
        """The attempts whose COMPUTE_METRICS is still owed."""
        has_tables = self._held is not None and self._held.state is state and self._held.is_tracked
        return self._held.tracker.unmeasured() if self._held is not None and has_tables else unmeasured(state)

    def _beat(self, last: Heartbeat | None) -> None:
        """Save the heartbeat, adding the counts of earlier observers and those that could not be saved before."""
        if last is not None:
            self._me.polls, self._me.failed_polls = max(last.polls, self._me.polls), last.failed_polls
        self._me.failed_polls += self._uncounted
        state_file.save_heartbeat(self.experiment, self._me, mode=self.mode)
        self._uncounted = 0

    def _mark_poll(self, wait_s: float) -> bool:
        """Whether a poll is due; if so it is marked as begun, so that no other observer polls as well."""
        with locked_on_proof(self.experiment, self.slurm, wait_s=self._wait_s):
            now = self._clock()
            last = state_file.load_heartbeat(self.experiment)
            self._me.poll_interval_s = self.settings.poll_interval
            # A time in the future means that a clock was set back; it is ignored.
            if last is not None and 0 <= now - last.polled_at < wait_s:
                return False
            self._me.polled_at = now
            self._me.polls = (last.polls if last is not None else self._me.polls) + 1
            for directory in (self.experiment.by_descriptor, self.experiment.jobs):
                sweep(directory)
            self._beat(last)
            return True

    def _ask(self, held: Held) -> Answers:
        """One squeue for all, and one sacct (per IDS_PER_CALL) for those that are gone from it.

        `held` takes in all but sacct's answers: only then is it known which jobs to ask sacct about.
        """
        local, entries = read_local(self.experiment, held)
        asked_at = self._clock()
        answer = self.slurm.queue()
        failure = answer if isinstance(answer, Failure) else None
        queue = None if isinstance(answer, Failure) else QueueAnswer(asked_at, answer.rows)
        held.tracker.apply(replace(local, queue=queue))
        accounts: list[AccountAnswer] = []
        job_ids = held.tracker.jobs_to_account(lost_after_s=self.settings.lost_after)
        for start in range(0, len(job_ids), IDS_PER_CALL):
            account = self._account(job_ids[start : start + IDS_PER_CALL])
            if isinstance(account, Failure):
                failure = failure or account
                break
            accounts.append(account)
        return Answers(queue, accounts, entries, failure)

    def _account(self, job_ids: Sequence[JobId]) -> AccountAnswer | Failure:
        asked_at, asked = self._clock(), frozenset(job_ids)
        answer = self.slurm.account(job_ids) if self.slurm.has("sacct") else None
        if isinstance(answer, Failure) and answer.kind is not FailureKind.ACCOUNTING_DISABLED:
            return answer
        if answer is None or isinstance(answer, Failure):
            return AccountAnswer(asked_at, asked, (), disabled=True)
        return AccountAnswer(asked_at, asked, answer.jobs)

    def _transact(
        self,
        answers: Answers | None,
        *,
        asked: Held | None = None,
        measurements: Sequence[Measurement] = (),
        extra: Sequence[Block] = (),
    ) -> ExperimentState:
        """Fold the facts in and log what follows. `asked`: the state that has all of `answers` but sacct's."""
        with locked_on_proof(self.experiment, self.slurm, wait_s=self._wait_s):
            now = self._clock()
            held = self._hold(now, asked)
            if answers is not None and held is asked:
                facts, entries = Facts(accounts=answers.accounts), answers.entries
            else:
                # Another process may have saved meanwhile, and have read more: the files are not to go backwards.
                facts, entries = read_local(self.experiment, held)
                facts = replace(facts, measurements=measurements)
                if answers is not None:
                    facts = replace(facts, queue=answers.queue, accounts=answers.accounts)
            events = held.take_in(facts, lost_after_s=self.settings.lost_after)
            ours = log_blocks.monitor_jobs(held, entries, self.experiment, now)
            poll = self._blocks_of_poll(held, answers, now) if answers is not None else []
            settled = log_blocks.settled_by(events, held.state)
            happened = log_blocks.blocks_of(events, self.experiment, settled, now=now)
            targets = targets_of(self.settings)
            failing = self.notifier.journal.read().failing(targets) if targets else {}
            unsent = log_blocks.unsent(held.state, targets, failing, now)
            failures = log_blocks.failures_of(events, held.state, settled) if targets else []
            new = [*log_blocks.set_aside(held, now), *extra, *poll, *happened, *ours, *unsent]
            self._save(held, new, failures=failures)
        self.notifier.start_if_due(self.session)
        return held.state

    def _blocks_of_poll(self, held: Held, answers: Answers, now: float) -> list[Block]:
        new = log_blocks.outage(held.state, answers.failure, now, alert_after=self.settings.alert_after)
        if answers.queue is not None:
            update_presence(held.state, answers.queue)
            new += log_blocks.alerts(held.tracker, now, poll_interval_s=self.settings.poll_interval)
            new.append(blocks.status_check(now, counts(held.state)))
        return new

    def _let_go(self) -> Held | None:
        """The kept state, if it is still the one in the file; it is kept again only after it is saved."""
        held, self._held = self._held, None
        return held if held is not None and held.is_current() else None

    def _hold(self, now: float, asked: Held | None = None) -> Held:
        """The state (`asked` if nobody saved since), after the blocks in its outbox were written to the log."""
        if self._mode_set != self.mode:
            self._mode_set = self.mode
            with suppress(OSError, UsageError):  # a mode costs no poll
                self.experiment.set_modes(group_readable=self.settings.group_readable)
        is_current = asked is not None and asked.is_current()
        held = (asked if is_current else self._let_go()) or state_file.hold(self.experiment, now=now)
        self._held = self._of_another = None
        self._append_blocks(held.state)
        cut_torn(self.experiment.log)
        self._append_notices(held.state)
        return held

    def _append_blocks(self, state: ExperimentState) -> None:
        if state.outbox is not None:
            complete(self.experiment.log, state.outbox.offset, state.outbox.text.encode(), mode=self.mode)
            state.outbox = None

    def _append_notices(self, state: ExperimentState) -> None:
        """Give the journal of notifications what it is owed; if that fails, it is owed on, and the poll goes on."""
        if state.notices is not None:
            with suppress(OSError, UsageError):
                offset, text = state.notices.offset, state.notices.text
                complete(self.experiment.notifications, offset, text.encode(), mode=self.mode)
                state.notices = None

    def _save(self, held: Held, new: list[Block], *, failures: Sequence[EvalFailure] = ()) -> None:
        """Save if a fact changed, with the new blocks in the outbox; then append them, then clear the outbox.

        Once the state is saved, the blocks are as good as logged: where the log cannot be written now, the next
        transaction delivers them. The outbox must not stay: a log that the user has moved away since would get its
        text again. Without a changed fact (a poll that found nothing new) they are appended only:
        killed in the middle of that, the torn block is cut, and the next poll says the same.
        """
        targets = targets_of(self.settings)
        if targets:
            now = self._clock()
            events = notifications(
                held.state, failures, now=now, summary=lambda: build(held.state, now=now, settings=self.settings)
            )
            held.state.notices = self.notifier.journal.outbox(held.state.notices, events, targets)
        text = blocks.join(new)
        if not held.is_changed():
            if text:
                complete(self.experiment.log, size_of(self.experiment.log), text.encode(), mode=self.mode)
            held.is_saved()
            self._held = held
            return
        held.state.outbox = Outbox(size_of(self.experiment.log), text) if text else None
        held.save(mode=self.mode)
        if held.state.outbox is not None or held.state.notices is not None:
            self._append_notices(held.state)
            with suppress(OSError):
                self._append_blocks(held.state)
                held.save(mode=self.mode)
        held.set_aside = None
        self._held = held


def counts(state: ExperimentState) -> Counter[State]:
    """How many evals are in each state; dropped ones, and those that Slurm never took, are in none."""
    by_state = Counter([ev.state for ev in state.counted if ev.name not in state.waiting])
    by_state[State.UNSUBMITTED] = len(state.waiting)
    return by_state


@dataclass(frozen=True, slots=True)
class Answers:
    """What squeue and sacct said, the registry's entries, and the failed call, if one failed."""

    queue: QueueAnswer | None
    accounts: Sequence[AccountAnswer]
    entries: Sequence[Entry]
    failure: Failure | None = None


def read_local(experiment: Experiment, held: Held) -> tuple[Facts, list[Entry]]:
    """What the experiment's files have that the state lacks; Slurm is not asked."""
    entries = experiment.ledger.entries()
    facts = Facts(
        registrations=held.unregistered(entries),
        reports=list(reports.changed(experiment.jobs, held.state.reported)),
    )
    return facts, entries


def back_off_s(poll_interval_s: float, *, failures: int, alert_after: int, jitter: float = 0.0) -> float:
    """The wait before the next poll: doubled for each failure after the ALERT, up to ten minutes.

    `jitter`, from 0 to 1, adds up to a tenth of it, so that a thousand observers do not ask a Slurm that comes back at
    the same moment.
    """
    beyond = max(failures - alert_after, 0)
    wait_s = poll_interval_s * 2.0 ** min(beyond, 10) * (1.0 + _JITTER * jitter)
    return min(wait_s, max(MAX_BACK_OFF_S, poll_interval_s * (1.0 + _JITTER * jitter)))
