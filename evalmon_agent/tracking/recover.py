"""Recovers from the log what a lost state knew, so that nothing is logged twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.logbook.read import Block, transition
from evalmon_agent.tracking.records import ExperimentState, Logged, MonitorJob, Recovered


def recover(state: ExperimentState, log: Iterable[Block]) -> frozenset[str]:
    """Take the blocks of monitor.log, in order, into a new, empty state; returns the completion jobs that it names."""
    recovered = Recovered()
    completion_jobs = set()
    complete = False
    for block in log:
        changed = transition(block)
        if changed is not None:
            recovered.logged.setdefault(block.subject, []).append(Logged(*changed))
            complete = False
        elif block.kind is BlockKind.COMPUTE_METRICS and block.job_id is not None:
            recovered.measured.setdefault(block.subject, []).append(block.job_id)
        elif block.kind is BlockKind.COMPLETION_SUBMITTED and block.job_id is not None:
            completion_jobs.add(block.job_id)
        elif block.kind is BlockKind.ALL_COMPLETE:
            state.completions += 1
            complete = True
        elif block.kind is BlockKind.NOTIFICATION_FAILED:
            state.notified.failing.append(block.subject)
        elif block.kind is BlockKind.NOTIFICATION_RECOVERED and block.subject in state.notified.failing:
            state.notified.failing.remove(block.subject)
    state.recovered = recovered
    if complete:
        state.completion = MonitorJob(status="complete")
    return frozenset(completion_jobs)
