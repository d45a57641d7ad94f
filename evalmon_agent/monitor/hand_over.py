"""Decides when a sidecar ends and whether it gets a successor: time limit, preemption, replacement, starved evals."""

from __future__ import annotations

import time

from evalmon_agent.experiment import state as state_file
from evalmon_agent.jobs.monitor_jobs import submit_monitor_job
from evalmon_agent.monitor.poll import Observed
from evalmon_agent.session import Session
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.tracking.alerts import starved_by
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

STARVED_POLLS = 3
"""Polls in a row that must find no eval running: between the end of one and the start of the next there is none."""

_MARGIN_S = 120.0
_LAST_S = 10.0
_LAST_OF_LIFE = 0.05
_MARGIN_OF_LIFE = 0.2


class HandOver:
    """Watches for the end of this sidecar, and submits its successor."""

    def __init__(self, session: Session, *, ends_at: float | None) -> None:
        self.session = session
        self._job_id = own_job_id(session.environ)
        self._started_at = time.time()
        self._ends_at = ends_at
        self._successor: str | None = None
        self._refusal: str | None = None
        self._starved = 0

    def left_s(self) -> float:
        """How long this sidecar may still run."""
        return float("inf") if self._ends_at is None else last_moment(self._started_at, self._ends_at) - time.time()

    def reason_to_leave(self, observed: Observed) -> str | None:
        """Why this sidecar should end now, or None; also submits its successor shortly before its time limit."""
        return self._replaced(observed) or self._in_the_way(observed) or self._at_the_limit(observed)

    def hand_over_if_preempted(self) -> str | None:
        """After a TERM: submit a successor if Slurm preempted this job and will not run it again.

        A requeued job comes back by itself, and a job that somebody cancelled must not get a successor.
        """
        self.session.slurm.stopped = None
        if self._job_id is None or not self.session.slurm.is_preempted(self._job_id):
            return None
        outcome = self._submit()
        if outcome is not None:
            return f"preempted, handed over to job {outcome}"
        return f"preempted and no successor ({self._refusal}); the completion job writes the summary"

    def _replaced(self, observed: Observed) -> str | None:
        """A reason if a later sidecar runs; while that one waits for its start, this one stays."""
        latest = observed.state.sidecar
        later = latest.job_id if latest is not None else None
        if self._job_id is None or later in {None, self._job_id}:
            return None
        rows = observed.queue.rows if observed.queue is not None else ()
        runs = any(row.job_id == later and row.state is State.RUNNING for row in rows)
        if not runs and not self._polls(later):
            return None
        return self._handed_over() if later == self._successor else f"job {later} watches now"

    def _polls(self, job_id: JobId) -> bool:
        last = state_file.load_heartbeat(self.session.experiment)
        return last is not None and last.role == "sidecar" and last.job_id == job_id

    def _in_the_way(self, observed: Observed) -> str | None:
        if self._job_id is None or observed.queue is None:
            return None
        limit = starved_by(observed.state)
        self._starved = self._starved + 1 if limit is not None else 0
        if self._starved < STARVED_POLLS:
            return None
        return f"evaluations wait for {limit}, none runs, and this job counts in it; {self._what_comes(observed)}"

    def _at_the_limit(self, observed: Observed) -> str | None:
        if self._ends_at is None or time.time() < hand_over_at(
            self._started_at, self._ends_at, self.session.settings.poll_interval
        ):
            return None
        if self._successor is None and self._refusal is None:
            self._submit()
        if self.left_s() > 0:
            return None
        if self._successor is not None:
            return self._handed_over()
        return f"time limit near and no successor ({self._refusal}); {self._what_comes(observed)}"

    def _what_comes(self, observed: Observed) -> str:
        if observed.state.has_completion_job:
            return "the completion job writes the summary"
        return f"there is no completion job; to finish, run: evalmon status {self.session.experiment.root}"

    def _handed_over(self) -> str:
        return f"handed over to job {self._successor} before the time limit"

    def _submit(self) -> str | None:
        outcome = submit_monitor_job(self.session, "sidecar")
        self._successor, self._refusal = outcome.job_id, outcome.refusal
        return self._successor


def last_moment(started_at: float, ends_at: float) -> float:
    """When a sidecar ends at the latest: 10 s before its time limit, or 5 % of the limit before it if that is less."""
    return ends_at - min(_LAST_S, _LAST_OF_LIFE * max(ends_at - started_at, 0.0))


def hand_over_at(started_at: float, ends_at: float, poll_interval_s: float) -> float:
    """When a sidecar submits its successor: three polls, two minutes at least, before its end.

    But not before four fifths of its time limit: short limits must not make a chain of sidecars that hand over at once.
    """
    margin_s = max(3 * poll_interval_s, _MARGIN_S)
    return ends_at - min(margin_s, _MARGIN_OF_LIFE * max(ends_at - started_at, 0.0))
