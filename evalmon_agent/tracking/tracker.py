"""Takes facts into a state and says what happened.

Pure: no file, clock or process. Facts may come late, twice, and in any order: each is recorded on its own (`apply`),
and an eval's path is derived from all of them (`timeline.steps`). tests/tracking/test_any_order.py has the promises.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking import apply, timeline
from evalmon_agent.tracking.alerts import ComingAlert, changed_alerts, coming_alert
from evalmon_agent.tracking.apply import JobIndex, Tracked
from evalmon_agent.tracking.records import (
    AccountAnswer,
    Alert,
    Eval,
    ExperimentState,
    Job,
    Logged,
    Measurement,
    QueueAnswer,
    SelfReport,
)
from evalmon_agent.tracking.registry import Registration
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import TERMINAL

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of one observation; an empty one means no news."""

    registrations: Sequence[Registration] = ()
    reports: Sequence[SelfReport] = ()
    queue: QueueAnswer | None = None
    accounts: Sequence[AccountAnswer] = ()
    measurements: Sequence[Measurement] = ()

    def __bool__(self) -> bool:
        return any((self.registrations, self.reports, self.queue, self.accounts, self.measurements))


class Tracker:
    """A state that takes in one observation after the other; an eval that no fact touches costs nothing.

    Nobody else may change the evals meanwhile, unless they call `touch`. `apply` may be called several times
    before `events`; the events are those of one fold of all these facts.
    """

    def __init__(self, state: ExperimentState) -> None:
        self.state = state
        self.index = JobIndex(state.evals.values())
        # Each eval's member of `evals` in state.json, in the order of the state.
        self._members = {name: _encoded(ev) for name, ev in state.evals.items()}
        # The names of the evals whose members are to be encoded anew, in order.
        self._touched: dict[str, None] = {}
        # Whether a member has changed since the last `is_saved`.
        self._is_changed = False
        # All members: a state is often saved twice, with an outbox and without.
        self._json: msgspec.Raw | None = None
        # Evals touched since the last `events`: their path may have new steps.
        self._unsettled = dict(state.evals)
        # Evals whose entry in the five tables below (`_restless` to `_cleared`) is to be computed anew.
        self._unnoted: dict[str, Eval] = {}
        # Evals that the next answer of squeue may change even if their rows stay the same, such as a missing job.
        self._restless = dict(state.evals)
        # Jobs that sacct must be asked about, by eval.
        self._to_account: dict[str, list[JobId]] = {}
        # Evals with an attempt whose figures are still to be captured.
        self._owing: dict[str, Eval] = {}
        # The alerts that evals get if they stay as they are.
        self.coming: dict[str, ComingAlert] = {}
        # Evals with an alert whose cause is gone, or is back.
        self._cleared: dict[str, Eval] = {}
        # Jobs that squeue showed in its last answer as not over, with their eval.
        self._active: set[tuple[str, JobId]] = set()
        # The rows of squeue's last answer by `id()`, and when it was asked.
        self._rows: Mapping[int, SqueueRow] = {}
        self._asked_at: float | None = None
        # The `lost_after` of the last `events`: another one may change the path of every eval.
        self._lost_after_s: float | None = None
        # Figures taken in since the last `events`.
        self._measurements: list[Measurement] = []

    def touch(self, ev: Eval) -> None:
        """Call this when an eval is changed, so that the change and what follows from it are noticed."""
        self._touched[ev.name] = None
        self._unsettled[ev.name] = self._restless[ev.name] = ev

    def is_changed(self) -> bool:
        """Whether an eval has changed since the last `is_saved`."""
        self._encode()
        return self._is_changed

    def encoded(self) -> msgspec.Raw:
        """All evals as JSON; only those that were touched are encoded anew."""
        self._encode()
        if self._json is None:
            self._json = msgspec.Raw(b"".join((b"{", b",".join(self._members.values()), b"}")))
        return self._json

    def is_saved(self) -> None:
        """The state was saved: changes are counted from here on."""
        self._encode()
        self._is_changed = False

    def raise_alerts(self, *, now: float, poll_interval_s: float) -> list[tuple[Eval, Alert]]:
        """Record the alerts that are due, and of which the cause is gone, or is back; returns the new ones."""
        self._note()
        for ev in self._cleared.values():
            for alert in changed_alerts(ev):
                self.touch(ev)
                alert.cleared_at = now if alert.cleared_at is None else None
        due = {name: c for name, c in self.coming.items() if now - c.since >= c.polls * poll_interval_s}
        raised = [(ev, Alert(due[ev.name].kind, now, due[ev.name].reason)) for ev in self._ordered(due)]
        for ev, alert in raised:
            self.touch(ev)
            ev.jobs[-1].alerts.append(alert)
            del self.coming[ev.name]
        return raised

    def apply(self, facts: Facts) -> None:
        """Take in all facts; `events` then derives what follows from them."""
        # A job that `watch` adopted comes last, and only if it is no eval yet: it may have reported itself.
        for fact in sorted(facts.registrations, key=lambda fact: fact.submitted_at is not None):
            if fact.submitted_at is None or not apply.is_tracked(self.index.of(fact.job_id), fact.submitted_at):
                self._register(fact)
        for report in facts.reports:
            self._apply_report(report, facts.queue)
        if facts.queue is not None:
            self._apply_queue(facts.queue)
        for account in facts.accounts:
            self._apply_account(account)
        self._measurements += facts.measurements

    def jobs_to_account(self, *, lost_after_s: float) -> list[JobId]:
        """The ids to ask sacct about, judged by what was taken in so far. The state stays as it is."""
        self._note()
        ids = {job_id for name, owed in self._to_account.items() if name not in self._unsettled for job_id in owed}
        for ev in self._unsettled.values():
            # On a copy, since the eval itself is brought up to date only once sacct's answer is there. Deriving the
            # path changes state and `final`, and of an eval with reports also its attempts.
            has_reports = any(attempt.report is not None for job in ev.jobs for attempt in job.attempts)
            copy = _deep_copy(ev) if has_reports and not ev.final else msgspec.structs.replace(ev)
            self._derive(copy, lost_after_s=lost_after_s)
            ids.update(timeline.ids_to_account(copy))
        return timeline.in_order(ids)

    def events(self, *, lost_after_s: float) -> list[timeline.Event]:
        """What happened since it was last asked, oldest first."""
        if lost_after_s != self._lost_after_s:
            self._unsettled, self._lost_after_s = dict(self.state.evals), lost_after_s
        events: list[timeline.Event] = []
        evals = self._ordered(self._unsettled)
        for ev in evals:
            events += self._settle(ev, lost_after_s=lost_after_s)
        events += [event for fact in self._measurements for event in self._apply_measurement(fact)]
        self._measurements = []
        self._unnoted |= self._unsettled
        self._unsettled = {}
        return events

    def unmeasured(self) -> Iterator[timeline.EndedAttempt]:
        """The attempts whose COMPUTE_METRICS is still owed."""
        self._note()
        return (owed for ev in self._ordered(self._owing) for owed in timeline.owed_by(ev))

    def _encode(self) -> None:
        """Encode the evals that were touched."""
        for name in self._touched:
            member = _encoded(self.state.evals[name])
            if member != self._members.get(name):
                self._members[name], self._is_changed, self._json = member, True, None
        self._touched = {}

    def _ordered(self, names: Collection[str]) -> list[Eval]:
        """The evals of these names, in the order of the state."""
        return [ev for name, ev in self.state.evals.items() if name in names] if names else []

    def _register(self, fact: Registration) -> Tracked:
        before = self.state.evals.get(fact.submission.name)
        jobs = len(before.jobs) if before is not None else 0
        ev, job = apply.registration(self.state, fact)
        self.touch(ev)
        if len(ev.jobs) > jobs:
            self.index.add(ev, job)
        else:
            self.index.sort(job.job_id)
        return ev, job

    def _apply_report(self, report: SelfReport, queue: QueueAnswer | None) -> None:
        """Take in a job's report; one of an unknown job is left, and looked at again at the next poll."""
        tracked = apply.reporter(self.index, report)
        if tracked is None:
            registration = apply.registration_of(self.state, self.index, report, queue=queue)
            if registration is None:
                return
            tracked = self._register(registration)
        self.state.reported[report.source] = report.version
        self.touch(tracked[0])
        apply.report(*tracked, report)

    def _apply_queue(self, answer: QueueAnswer) -> None:
        """Take in an answer of squeue: for evals whose rows changed, and for those that the same rows may change."""
        self._note()
        if self._asked_at is not None and answer.asked_at < self._asked_at:
            self._restless = dict(self.state.evals)
        rows_by_identity = dict(zip(map(id, answer.rows), answer.rows, strict=True))
        evals = self._concerned(rows_by_identity)
        self._rows, self._asked_at = rows_by_identity, answer.asked_at
        keys = {job.job_id for ev in evals.values() for job in ev.jobs}
        rows = [row for row in answer.rows if row.job_id in keys] if keys else []
        for ev in evals.values():
            self.touch(ev)
            self._active.difference_update((ev.name, job.job_id) for job in ev.jobs)
        self._active |= apply.queue(self.index, rows, evals.values(), asked_at=answer.asked_at)

    def _concerned(self, rows: Mapping[int, SqueueRow]) -> dict[str, Eval]:
        """The restless evals and those with other rows than before, and all that share an id with one of them."""
        evals = dict(self._restless)
        keys = {job.job_id for ev in evals.values() for job in ev.jobs}
        # The rows that are new or gone; one that says the same as before is the same object (`slurm.squeue.Parser`).
        changed = rows.keys() ^ self._rows.keys()
        new = keys | {(rows.get(identity) or self._rows[identity]).job_id for identity in changed}
        while new:
            more = {ev.name: ev for key in new for ev, _ in self.index.of(key) if ev.name not in evals}
            keys |= new
            evals |= more
            new = {job.job_id for ev in more.values() for job in ev.jobs} - keys
        return evals

    def _apply_account(self, answer: AccountAnswer) -> None:
        for job_id in {*answer.asked, *(row.job_id for row in answer.jobs)}:
            for ev, _ in self.index.of(job_id):
                self.touch(ev)
        apply.account(self.index, answer)

    def _apply_measurement(self, fact: Measurement) -> Iterator[timeline.Event]:
        name, job_id, _, _ = fact.key
        ev = self.state.evals.get(name)
        if ev is None:
            return
        self.touch(ev)
        for ended in (timeline.EndedAttempt(ev, job, attempt) for job in ev.jobs for attempt in job.attempts):
            attempt = ended.attempt
            if ended.key != fact.key:
                continue
            if fact.is_later and fact.evidence is not None:
                attempt.evidence = fact.evidence.with_what_is_gone(attempt.evidence)
            elif attempt.figures is None and not fact.is_later:
                attempt.figures, attempt.evidence = fact.figures, fact.evidence
                if not _was_measured(self.state, name, job_id):
                    yield ended

    def _derive(self, ev: Eval, *, lost_after_s: float) -> list[timeline.Step]:
        """Derive the eval's path and set its state by it; a final eval is left alone."""
        if ev.final:
            return []
        self._touched[ev.name] = None
        for job in ev.jobs:
            if any(attempt.report is not None for attempt in job.attempts):
                timeline.align(job)
        path = timeline.steps(ev, lost_after_s=lost_after_s)
        ev.state = path[-1].state
        ev.final = timeline.is_final(ev, path)
        return path

    def _settle(self, ev: Eval, *, lost_after_s: float) -> list[timeline.Event]:
        """Derive the eval's path, and return the events that the log does not have yet."""
        new = list(timeline.unlogged(self._derive(ev, lost_after_s=lost_after_s), ev.logged))
        ev.logged += [_logged(step) for step, _ in new]
        return [timeline.Transition(ev, previous, step) for step, previous in new]

    def _note(self) -> None:
        """Compute for each changed eval which tables it belongs to."""
        for name, ev in self._unnoted.items():
            _keep(self._to_account, name, timeline.ids_to_account(ev))
            _keep(self._owing, name, ev if any(timeline.owed_by(ev)) else None)
            _keep(self.coming, name, coming_alert(ev))
            _keep(self._cleared, name, ev if changed_alerts(ev) else None)
            _keep(self._restless, name, None if name not in self._unsettled and self._is_quiet(ev) else ev)
        self._unnoted = {}

    def _is_quiet(self, ev: Eval) -> bool:
        """Whether the eval stays as it is if squeue shows the same rows again."""
        return self._asked_at is not None and all(self._is_job_quiet(ev, job, self._asked_at) for job in ev.jobs)

    def _is_job_quiet(self, ev: Eval, job: Job, asked_at: float) -> bool:
        if max([job.registered_at, job.missing_at or 0.0, *(attempt.queue_at for attempt in job.attempts)]) > asked_at:
            return False
        if any(attempt.superseded_at is None for attempt in job.attempts[:-1]):
            return False
        if (ev.name, job.job_id) in self._active:
            return job.missing_at is None
        return ev.final and not apply.was_missing_too_early(ev, job)


def _encoded(ev: Eval) -> bytes:
    return msgspec.json.encode(ev.name) + b":" + msgspec.json.encode(ev)


def _deep_copy(ev: Eval) -> Eval:
    return msgspec.json.decode(msgspec.json.encode(ev), type=Eval)


def _keep(table: dict[str, T], name: str, value: T | None) -> None:
    if value:
        table[name] = value
    else:
        table.pop(name, None)


def _logged(step: timeline.Step) -> Logged:
    """The log's entry for a step. Only an end names its attempt: a start may turn out to be an earlier attempt's."""
    ended = step.attempt if step.state in TERMINAL else None
    return Logged(step.job_id, step.state, ended.submitted_at if ended is not None else None)


def _was_measured(state: ExperimentState, name: str, job_id: str) -> bool:
    """Whether the log of a lost state has this block already; each block counts once."""
    jobs = state.recovered.measured.get(printable(name), []) if state.recovered is not None else []
    if job_id not in jobs:
        return False
    jobs.remove(job_id)
    return True
