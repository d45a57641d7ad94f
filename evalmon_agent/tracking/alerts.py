"""Finds evals that need a person; each reason is told once per job. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from evalmon_agent.tracking.records import Eval
from evalmon_agent.tracking.waiting import stuck_for
from evalmon_agent.words.states import State

UNREPORTED = "unreported"
_POLLS = 1.8
"""Two polls, less what timers are late or early."""


def may_need_a_person(ev: Eval) -> bool:
    """Whether it is as it should not stay for long."""
    return is_unreported(ev) or stuck_for(ev) is not None


def is_unreported(ev: Eval) -> bool:
    """Whether it runs without a report of its own, and nobody was told so yet."""
    if ev.final or ev.latest is None or ev.latest.queue_state is not State.RUNNING:
        return False
    return ev.latest.report is None and ev.jobs[-1].token is not None and UNREPORTED not in ev.jobs[-1].alerted


def newly_unreported(evals: Iterable[Eval], *, now: float, poll_interval_s: float) -> list[Eval]:
    """Those that have run for two polls without a report of their own."""
    return [ev for ev in evals if is_unreported(ev) and _has_run_for(ev, now) >= _POLLS * poll_interval_s]


def _has_run_for(ev: Eval, now: float) -> float:
    seen_at = ev.latest.running_seen_at if ev.latest is not None else None
    return 0.0 if seen_at is None else now - seen_at
