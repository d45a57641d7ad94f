"""Folds facts into a state at once, as an observer does that makes a single poll."""

from __future__ import annotations

from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.timeline import Event
from evalmon_agent.tracking.tracker import Facts, Tracker


def fold(state: ExperimentState, facts: Facts, *, lost_after_s: float) -> list[Event]:
    """Apply the facts in place and return the events since the last fold, oldest first."""
    tracker = Tracker(state)
    tracker.apply(facts)
    return tracker.events(lost_after_s=lost_after_s)
