"""Polls a simulated Slurm as an observer does, and keeps the log as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.state import recover
from evalmon_agent.figures import Figures, from_self
from evalmon_agent.files.pinned import Pinned
from evalmon_agent.monitor.log_blocks import blocks_of, settled_by
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.alerts import coming_alert
from evalmon_agent.tracking.blocks import BlockKind, blocks_in, join
from evalmon_agent.tracking.records import ExperimentState, Measurement, QueueAnswer
from evalmon_agent.tracking.timeline import EndedAttempt, Event, ids_to_account, in_order, unmeasured
from evalmon_agent.tracking.tracker import Facts, Tracker
from evalmon_agent.words.states import State
from folding import fold
from tracking.simulated_slurm import Cluster

LOST_AFTER_S = 1800.0
LAG_S = 120.0

EXP = Experiment("/exp", Pinned("/", only_to_search=True))


@dataclass(frozen=True)
class Look:
    """One poll: `after` seconds after the last one; what fails; how far sacct is behind."""

    after: float = 60.0
    squeue_fails: bool = False
    sacct_fails: bool = False
    reports_late_s: float | None = 0.0
    lag_s: float = 0.0
    mystery: bool = False


@dataclass
class Watcher:
    """State, events and log of one experiment.

    Every observation is folded twice: by a tracker that lives as long as the state, with squeue's unchanged rows the
    same objects, and anew from a copy of the state. Both must give the same events and state.
    """

    cluster: Cluster
    state: ExperimentState = field(default_factory=lambda: ExperimentState(experiment="/exp"))
    events: list[Event] = field(default_factory=list)
    fed: list[Facts] = field(default_factory=list)
    log: str = ""
    tracker: Tracker | None = None
    rows: list[SqueueRow] = field(default_factory=list)

    def take(self, facts: Facts, *, now: float, in_parts: bool = False) -> list[Event]:
        """Fold, and write the log. `in_parts`: like an observer whose query to sacct depends on squeue's answer."""
        self.fed.append(facts)
        if self.tracker is None or self.tracker.state is not self.state:
            self.tracker = Tracker(self.state)
        anew = copy_of(self.state)
        expected = fold(anew, facts, lost_after_s=LOST_AFTER_S)
        before = msgspec.json.encode(self.state.evals)
        self.tracker.is_saved()
        kept = self._with_known_rows(facts)
        if in_parts:
            self.tracker.apply(Facts(kept.registrations, kept.reports, kept.queue))
            self.tracker.jobs_to_account(lost_after_s=LOST_AFTER_S)
            self.tracker.apply(Facts(accounts=kept.accounts, measurements=kept.measurements))
        else:
            self.tracker.apply(kept)
        new = self.tracker.events(lost_after_s=LOST_AFTER_S)
        assert expected == new
        assert anew == self.state
        assert self.tracker.is_changed() == (msgspec.json.encode(self.state.evals) != before)
        self._check_owed()
        self.log += join(blocks_of(new, EXP, settled_by(new, self.state), now=now))
        self.events += new
        return new

    def _with_known_rows(self, facts: Facts) -> Facts:
        """The same with the rows that squeue's last answer had already, as its parser keeps them."""
        if facts.queue is None:
            return facts
        self.rows = [next((known for known in self.rows if known == row), row) for row in facts.queue.rows]
        return replace(facts, queue=QueueAnswer(facts.queue.asked_at, self.rows))

    def _check_owed(self) -> None:
        """Check that what the tracker remembers of its evals is up to date."""
        assert self.tracker is not None
        evals = list(self.state.evals.values())
        assert [owed.key for owed in self.tracker.unmeasured()] == [owed.key for owed in unmeasured(self.state)]
        assert self.tracker.coming == {ev.name: alert for ev in evals if (alert := coming_alert(ev))}
        expected = in_order({job_id for ev in evals for job_id in ids_to_account(ev)})
        assert self.tracker.jobs_to_account(lost_after_s=LOST_AFTER_S) == expected

    def facts(self, look: Look, *, at: float) -> Facts:
        """The facts of this poll: squeue's for all, sacct's for the jobs that the state then asks about."""
        reports = [] if look.reports_late_s is None else self.cluster.reports(at - look.reports_late_s)
        local = Facts(
            registrations=[r for r in self.cluster.registrations() if r.registered_at < at],
            reports=[r for r in reports if self.state.reported.get(r.source) != r.version],
            queue=None if look.squeue_fails else self.cluster.queue(at, mystery=look.mystery),
        )
        preview = Tracker(copy_of(self.state))
        preview.apply(local)
        wanted = preview.jobs_to_account(lost_after_s=LOST_AFTER_S)
        accounts = [self.cluster.accounts(at, lag=look.lag_s, asked=wanted)]
        return Facts(
            local.registrations, local.reports, local.queue, [] if look.sacct_fails or not wanted else accounts
        )

    def poll(self, look: Look, *, at: float) -> None:
        self.take(self.facts(look, at=at), now=at, in_parts=True)

    def measure(self, *, now: float) -> None:
        """Capture accounting's figures of ended attempts and, long after the end, those from elsewhere."""
        silent = from_self(elapsed_s=None, time_limit_s=None)
        patient_until = self.cluster.over_at + LAG_S
        found = [
            measured(owed, figures)
            for owed in unmeasured(self.state)
            if (figures := owed.attempt.accounted or (silent if owed.job.answered_at > patient_until else None))
        ]
        self.take(Facts(measurements=found), now=now)

    def watch(self, looks: Iterable[Look], *, begin: float) -> float:
        """Poll repeatedly; returns the time of the last poll."""
        at = begin
        for look in looks:
            at += look.after
            self.poll(look, at=at)
            self.measure(now=at)
        return at

    def watch_to_the_end(self, *, begin: float, every_s: float = 180.0) -> float:
        """Poll undisturbed until everything is over and measured, which must be soon after the last job's end."""
        at = begin
        while at < max(self.cluster.over_at, begin) + 1200:
            at = self.watch([Look(every_s)], begin=at)
            if at >= self.cluster.over_at and self.is_done():
                return at
        raise AssertionError(f"not over at {at}: {self.state}")

    def is_done(self) -> bool:
        evals = self.state.evals.values()
        known = len(evals) == len(self.cluster.jobs)
        return known and all(ev.final for ev in evals) and not list(unmeasured(self.state))

    def lose_state(self) -> None:
        """Lose state.json and keep the log."""
        self.state = ExperimentState(experiment="/exp")
        recover(self.state, blocks_in(self.log))

    def logged(self, name: str) -> list[tuple[str, State]]:
        """The transitions of one eval in the log, checked to be continuous."""
        found = []
        last: dict[str, str] = {}
        for block in blocks_in(self.log):
            if (block.kind, block.subject) == (BlockKind.STATE_CHANGE, name):
                job_id, current = block.fields["Job ID"], block.fields["Current"]
                assert block.fields["Previous"] == last.get(job_id, "PENDING"), self.log
                last[job_id] = current
                found.append((job_id, State(current)))
        return found

    def measured(self, name: str) -> int:
        return sum((block.kind, block.subject) == (BlockKind.COMPUTE_METRICS, name) for block in blocks_in(self.log))


def measured(owed: EndedAttempt, figures: Figures) -> Measurement:
    return Measurement(owed.key, figures)


def copy_of(state: ExperimentState) -> ExperimentState:
    """The state as it would be loaded from state.json."""
    return msgspec.json.decode(msgspec.json.encode(state), type=ExperimentState)
