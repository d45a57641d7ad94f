"""Folds facts into a state in one go, as an observer that does not live on."""

from __future__ import annotations

from evalmon_agent.tracking.fold import Facts, Tracker
from evalmon_agent.tracking.records import Event, ExperimentState


def fold(state: ExperimentState, facts: Facts, *, lost_after_s: float) -> list[Event]:
    """Take the facts in, in place, and return what happened since the last fold, oldest first."""
    tracker = Tracker(state)
    tracker.apply(facts)
    return tracker.events(lost_after_s=lost_after_s)
