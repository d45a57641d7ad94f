"""Which evals need a person: each reason is told once per job. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.words.states import State

_UNREPORTED = "unreported"
_POLLS = 1.8
"""Two polls, less what timers are late or early."""


def newly_unreported(state: ExperimentState, *, now: float, poll_interval_s: float) -> Iterator[Eval]:
    """The evals that have run for two polls without a report of their own, each once, marked as told."""
    for ev in state.evals.values():
        if ev.final or not ev.jobs:
            continue
        job, attempt = ev.jobs[-1], ev.latest
        if job.token is None or _UNREPORTED in job.alerted or attempt is None:
            continue
        seen_at = attempt.running_seen_at if attempt.queue_state is State.RUNNING else None
        if seen_at is None or now - seen_at < _POLLS * poll_interval_s or attempt.report is not None:
            continue
        job.alerted.append(_UNREPORTED)
        yield ev
