"""What else an observer tells: Slurm's silence, evals that do not report, a state that was lost, our own jobs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import is_

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.state import Held
from evalmon_agent.files.pinned import shown
from evalmon_agent.jobs.monitor_jobs import active_jobs
from evalmon_agent.logbook import blocks
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.tracking.alerts import UNREPORTED, newly_unreported
from evalmon_agent.tracking.fold import Tracker
from evalmon_agent.tracking.helpers import take_helpers
from evalmon_agent.tracking.records import Eval, ExperimentState, Outage
from evalmon_agent.tracking.registry import Entry
from evalmon_agent.tracking.unsubmitted import take_waiting
from evalmon_agent.tracking.waiting import action_for, newly_stuck, pending, told_as

Block = list[str]
_LISTED = 10
"""Evals that one ALERT names."""


def outage(state: ExperimentState, failure: Failure | None, now: float, *, alert_after: int) -> list[Block]:
    """QUERY_ERROR for each failed poll, one ALERT per outage, QUERY_RECOVERED after it."""
    if failure is None:
        ended, state.outage = state.outage, None
        return [] if ended is None or not ended.alerted else [_recovered(ended, now)]
    known = state.outage = state.outage or Outage(since=now)
    known.failures += 1
    known.error = failure.line
    fields = {"Error": failure.line, "Action": "Nothing concluded; asking again at the next poll"}
    found = [blocks.note(now, BlockKind.QUERY_ERROR, "Slurm gave no usable answer", fields)]
    if known.failures >= alert_after and not known.alerted:
        known.alerted = True
        found.append(_alert(known, now))
    return found


def unreported(tracker: Tracker, now: float, *, poll_interval_s: float) -> list[Block]:
    """One ALERT for each eval that runs without us: most likely our interpreter is not on its node."""
    fields = {
        "Interpreter": sys.executable,
        "Action": "Make this path readable on the compute nodes; the eval itself runs on, unmonitored from inside",
    }
    evals = newly_unreported(tracker.alertable(), now=now, poll_interval_s=poll_interval_s)
    for ev in evals:
        tracker.mark_alerted(ev, UNREPORTED)
    return [
        blocks.note(now, BlockKind.ALERT, f"{ev.name} runs without reporting", {"Job ID": ev.job_id, **fields})
        for ev in evals
    ]


def stuck(tracker: Tracker, now: float, *, poll_interval_s: float) -> list[Block]:
    """One ALERT for each reason for which evals have been waiting for too long; a thousand tasks are one block."""
    by_reason: dict[str, list[Eval]] = {}
    for ev, reason in newly_stuck(tracker.alertable(), now=now, poll_interval_s=poll_interval_s):
        tracker.mark_alerted(ev, told_as(reason))
        by_reason.setdefault(reason, []).append(ev)
    return [_stuck(reason, evals, now) for reason, evals in by_reason.items()]


def _stuck(reason: str, evals: Sequence[Eval], now: float) -> Block:
    one = evals[0]
    subject = f"{one.name} waits: {reason}" if len(evals) == 1 else f"{len(evals)} evaluations wait: {reason}"
    more = f" and {len(evals) - _LISTED} more" if len(evals) > _LISTED else ""
    names = {} if len(evals) == 1 else {"Evaluations": ", ".join(ev.name for ev in evals[:_LISTED]) + more}
    ids = " ".join(ev.job_id for ev in evals[:_LISTED])
    since = min(attempt.queue_at for ev in evals if (attempt := pending(ev)) is not None)
    fields = {"Job ID": ids + more, **names, "Reason": reason, "Since": blocks.stamp(since)}
    return blocks.note(now, BlockKind.ALERT, subject, {**fields, "Action": action_for(reason, ids) or ""})


def set_aside(held: Held, now: float) -> list[Block]:
    """The ALERT for a state.json that could not be read."""
    if held.set_aside is None:
        return []
    fields = {
        "Set aside": shown(held.set_aside),
        "Action": "Rebuilt from the registry, the jobs' reports, Slurm and this log; nothing is logged twice",
    }
    return [blocks.note(now, BlockKind.ALERT, "state.json could not be read", fields)]


def helpers(held: Held, entries: Sequence[Entry], experiment: Experiment, now: float) -> list[Block]:
    """Take in which jobs are ours; COMPLETION_SUBMITTED for a completion job that is new, whoever submitted it."""
    state = held.state
    before = state.completion.job_id if state.completion is not None else None
    if len(entries) != len(held.entries) or not all(map(is_, entries, held.entries)):
        take_waiting(state, entries)
        held.entries = entries
    take_helpers(state, [entry for entry in entries if not entry.is_eval])
    job_id = state.completion.job_id if state.completion is not None else None
    if job_id in {None, before} or job_id in held.logged_completions:
        return []
    number = len(active_jobs(experiment, state))
    fields = {"Job ID": str(job_id), "Dependency": f"afterany on {number} job{'s' * (number != 1)}"}
    return [blocks.note(now, BlockKind.COMPLETION_SUBMITTED, "Summary after all evaluations", fields)]


def _recovered(ended: Outage, now: float) -> Block:
    fields = {"Failed polls": str(ended.failures), "Since": blocks.stamp(ended.since)}
    return blocks.note(now, BlockKind.QUERY_RECOVERED, "Slurm answers again", fields)


def _alert(known: Outage, now: float) -> Block:
    fields = {
        "Since": blocks.stamp(known.since),
        "Last error": known.error,
        "Action": "Check Slurm (sinfo); monitoring goes on and catches up when it answers",
    }
    return blocks.note(now, BlockKind.ALERT, f"{known.failures} polls in a row failed", fields)
