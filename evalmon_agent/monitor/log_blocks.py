"""Writes the log blocks of a poll: events, Slurm's silence, evals that need a person, monitor jobs, GPU use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from operator import is_

from evalmon_agent.evidence.diagnosis.causes import CAUSES, REFUSED, Diagnosis, one_line
from evalmon_agent.evidence.diagnosis.diagnose import AttemptEnd, diagnose
from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.evidence.gpu_measure import last_tick
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.state import Held
from evalmon_agent.figures import Figures
from evalmon_agent.files.pinned import shown
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.jobs.monitor_jobs import active_jobs
from evalmon_agent.notify.deliver import Target, what_to_do
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.summary.notifications import EvalFailure, failures_among
from evalmon_agent.tracking import blocks
from evalmon_agent.tracking.alerts import action_for, pending
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.tracking.records import Eval, ExperimentState, Outage, Refusal
from evalmon_agent.tracking.registry import Entry, update_monitor_jobs, update_unsubmitted
from evalmon_agent.tracking.timeline import EndedAttempt, Event, Transition, slurm_says
from evalmon_agent.tracking.tracker import Tracker
from evalmon_agent.tracking.verdict import (
    NO_RESULTS,
    EvalResults,
    agree,
    diagnosis_of,
    end_of_attempt,
    says,
    settle,
    verdict,
)
from evalmon_agent.words.sizes import counted, listed
from evalmon_agent.words.states import TERMINAL, State

Block = list[str]
_LISTED = 10
"""How many evals one ALERT names."""


def outage(state: ExperimentState, failure: Failure | None, now: float, *, alert_after: int) -> list[Block]:
    """QUERY_ERROR for each failed poll, one ALERT per outage, QUERY_RECOVERED after it."""
    if failure is None:
        ended, state.outage = state.outage, None
        return [] if ended is None or not ended.alerted else [_recovered(ended, now)]
    outage = state.outage = state.outage or Outage(since=now)
    outage.failures += 1
    outage.error = failure.line
    fields = {"Error": failure.line, "Action": "Nothing concluded; asking again at the next poll"}
    new = [blocks.note(now, BlockKind.QUERY_ERROR, "Slurm gave no usable answer", fields)]
    if outage.failures >= alert_after and not outage.alerted:
        outage.alerted = True
        new.append(_alert(outage, now))
    return new


def alerts(tracker: Tracker, now: float, *, poll_interval_s: float) -> list[Block]:
    """One ALERT for each eval that runs without evalmon, and for each reason for which evals have waited too long.

    Alerts whose cause is gone, or is back, are recorded as that, without a block.
    """
    unreported: list[Block] = []
    by_reason: dict[str, list[Eval]] = {}
    for ev, alert in tracker.raise_alerts(now=now, poll_interval_s=poll_interval_s):
        if alert.kind == "unreported":
            unreported.append(_unreported(ev, now))
        else:
            by_reason.setdefault(alert.reason, []).append(ev)
    return unreported + [_stuck(reason, evals, now) for reason, evals in by_reason.items()]


def _unreported(ev: Eval, now: float) -> Block:
    """Most likely the interpreter is not on its node."""
    fields = {
        "Job ID": ev.job_id,
        "Interpreter": sys.executable,
        "Action": "Make this path readable on the compute nodes; the eval itself runs on, unmonitored from inside",
    }
    return blocks.note(now, BlockKind.ALERT, f"{ev.name} runs without reporting", fields)


def _stuck(reason: str, evals: Sequence[Eval], now: float) -> Block:
    first = evals[0]
    subject = (
        f"{first.name} waits: {reason}" if len(evals) == 1 else f"{counted(len(evals), 'evaluation')} wait: {reason}"
    )
    ids = [ev.job_id for ev in evals]
    since = min(attempt.queue_at for ev in evals if (attempt := pending(ev)) is not None)
    fields = {
        "Job ID": listed(ids, most=_LISTED, separator=" "),
        "Evaluations": None if len(evals) == 1 else listed([ev.name for ev in evals], most=_LISTED),
        "Reason": reason,
        "Since": blocks.stamp(since),
        "Action": action_for(reason, " ".join(ids[:_LISTED])) or "",
    }
    return blocks.note(now, BlockKind.ALERT, subject, fields)


def set_aside(held: Held, now: float) -> list[Block]:
    """The ALERT for a state.json that could not be read."""
    if held.set_aside is None:
        return []
    fields = {
        "Set aside": shown(held.set_aside),
        "Action": "Rebuilt from the registry, the jobs' reports, Slurm and this log; nothing is logged twice",
    }
    return [blocks.note(now, BlockKind.ALERT, "state.json could not be read", fields)]


def monitor_jobs(held: Held, entries: Sequence[Entry], experiment: Experiment, now: float) -> list[Block]:
    """Record the monitor jobs, and what was not submitted.

    COMPLETION_SUBMITTED for a new completion job, ALERT for what Slurm refused, whichever process submitted it.
    """
    state = held.state
    before = state.completion.job_id if state.completion is not None else None
    refused_before = state.refused
    if len(entries) != len(held.entries) or not all(map(is_, entries, held.entries)):
        update_unsubmitted(state, entries)
        held.entries = entries
    update_monitor_jobs(state, [entry for entry in entries if not entry.is_eval])
    job_id = state.completion.job_id if state.completion is not None else None
    new = _newly_refused(state, refused_before, now)
    if job_id in {None, before} or job_id in held.logged_completions:
        return new
    number = len(active_jobs(experiment, state))
    fields = {"Job ID": str(job_id), "Dependency": f"afterany on {counted(number, 'job')}"}
    return [*new, blocks.note(now, BlockKind.COMPLETION_SUBMITTED, "Summary after all evaluations", fields)]


def _newly_refused(state: ExperimentState, before: Mapping[str, Refusal], now: float) -> list[Block]:
    """One ALERT for each reason for which Slurm refused evals."""
    by_reason: dict[str, list[str]] = {}
    for name, refusal in state.refused.items():
        if before.get(name) != refusal and name not in state.dropped:
            by_reason.setdefault(refusal.error, []).append(name)
    new = []
    for reason, names in by_reason.items():
        subject = names[0] if len(names) == 1 else counted(len(names), "evaluation")
        fields = {
            "Evaluations": None if len(names) == 1 else listed(names, most=_LISTED),
            "Reason": one_line(reason),
            "Action": CAUSES[REFUSED].advice,
        }
        new.append(blocks.note(now, BlockKind.ALERT, f"{subject} refused by Slurm", fields))
    return new


def unsent(state: ExperimentState, targets: Iterable[Target], failing: Mapping[str, str], now: float) -> list[Block]:
    """NOTIFICATION_FAILED when sending to a target begins to fail, NOTIFICATION_RECOVERED when it succeeds again.

    `failing`: why, by the target's label.
    """
    labels, told = [target.label for target in targets], state.notified.failing
    state.notified.failing = [label for label in labels if label in failing]
    new = [
        blocks.note(
            now, BlockKind.NOTIFICATION_FAILED, label, {"Error": failing[label], "Action": what_to_do(failing[label])}
        )
        for label in labels
        if label in failing and label not in told
    ]
    return new + [
        blocks.note(now, BlockKind.NOTIFICATION_RECOVERED, label, {"Result": "Notifications are sent again"})
        for label in labels
        if label in told and label not in failing
    ]


def _recovered(ended: Outage, now: float) -> Block:
    fields = {"Failed polls": str(ended.failures), "Since": blocks.stamp(ended.since)}
    return blocks.note(now, BlockKind.QUERY_RECOVERED, "Slurm answers again", fields)


def _alert(outage: Outage, now: float) -> Block:
    fields = {
        "Since": blocks.stamp(outage.since),
        "Last error": outage.error,
        "Action": "Check Slurm (sinfo); monitoring goes on and catches up when it answers",
    }
    return blocks.note(
        now, BlockKind.ALERT, f"{counted(outage.failures, 'poll')}{' in a row' * (outage.failures > 1)} failed", fields
    )


def settled_by(events: Iterable[Event], state: ExperimentState) -> dict[str, EvalResults]:
    """The results of the evals that were measured just now."""
    measured = {event.ev.name for event in events if isinstance(event, EndedAttempt)}
    return settle(state, only=measured) if measured else {}


def blocks_of(
    events: Iterable[Event], experiment: Experiment, settled: Mapping[str, EvalResults], *, now: float
) -> list[Block]:
    """The blocks in the order of the events; `settled`: see settled_by."""
    new: list[Block] = []
    for event in events:
        if isinstance(event, EndedAttempt):
            new += _measured(event, settled.get(event.ev.name, NO_RESULTS), now=now)
            continue
        new.append(_transition(event, experiment, now=now))
        diagnosis = _without_a_start(event)
        if diagnosis is not None:
            new.append(blocks.diagnosis(now, event.ev.name, event.step.job_id, diagnosis))
    return new


def failures_of(
    events: Iterable[Event], state: ExperimentState, settled: Mapping[str, EvalResults]
) -> list[EvalFailure]:
    """The evals that did not succeed, as these events say, with their causes as DIAGNOSIS has them."""
    failures = []
    for event in events:
        ev = event.ev
        if isinstance(event, Transition):
            diagnosis = _without_a_start(event)
            if diagnosis is not None:
                failures.append(EvalFailure(ev.name, ev.state, diagnosis))
        elif event.attempt is ev.latest:
            failures += failures_among([ev], settled)
    return [failure for failure in failures if failure.name not in state.dropped]


def result_log(ev: Eval, experiment: Experiment) -> str | None:
    """Where the eval's own logs lie, as the log writes it: `{run}/eval/logs/`, relative to EXP.

    None: unknown; "": nobody made that directory, so they lie elsewhere, or there are none.
    """
    if ev.script is None:
        return None
    directory = os.path.join(os.path.dirname(ev.script), "logs")
    return f"{experiment.relative(directory)}/" if os.path.isdir(directory) else ""


def _transition(event: Transition, experiment: Experiment, *, now: float) -> Block:
    step, is_end = event.step, event.step.state in TERMINAL
    block = blocks.state_change(
        now,
        event.ev.name,
        step.job_id,
        previous=event.previous,
        current=step.state,
        at=step.at,
        elapsed_s=step.attempt.ran_for_s if step.attempt is not None else None,
        result_log=result_log(event.ev, experiment) if is_end else None,
    )
    return [*block, *_notes(event)] if is_end else block


def _without_a_start(event: Transition) -> Diagnosis | None:
    """The diagnosis of an eval that ended without running, which will not be measured."""
    ev, step = event.ev, event.step
    if not (ev.final and step.state is ev.state and step.job_id == ev.job_id):
        return None
    if step.attempt is None:
        return diagnose(AttemptEnd(state=step.state))
    return None if step.attempt.has_run else diagnose(end_of_attempt(step.attempt, state=step.state))


def _notes(event: Transition) -> list[str]:
    step = event.step
    if step.state is State.LOST:
        forgets = (
            "; it keeps no trace of an array's task that is cancelled before its start" if _never_ran(event) else ""
        )
        return [f"Note: Slurm has not known this job for longer than lost_after; how it ended is unknown{forgets}"]
    if step.witness == "self":
        return ["Note: from the job's own report; Slurm's accounting does not have it"]
    report = step.attempt.report if step.attempt is not None else None
    if agree(step.state, report) is False:
        return [f"Note: the witnesses disagree: Slurm says {step.state}, the job itself {says(report)}"]
    return []


def _never_ran(event: Transition) -> bool:
    """Whether this is an array's task that was last seen waiting [ran, 22.05: neither squeue nor sacct has it then]."""
    return "_" in event.step.job_id and event.previous is State.PENDING


def _measured(event: EndedAttempt, found: EvalResults, *, now: float) -> list[Block]:
    """What is known of an attempt that ended; of one that was followed by another, its figures only."""
    ev, attempt, job_id = event.ev, event.attempt, event.job.job_id
    state = slurm_says(attempt) or State.COMPLETED
    new = [blocks.compute_metrics(now, ev.name, job_id, attempt.figures or Figures(), state=state)]
    if attempt is not ev.latest:
        return new
    new += [blocks.eval_result(now, ev.name, job_id, result) for result in found.results]
    if found.missing or found.unknown is not None:
        new.append(blocks.result_unknown(now, ev.name, job_id, found.unknown))
    diagnosis = None if verdict(ev, found) in {"ok", "unverified"} else diagnosis_of(ev, found)
    if diagnosis is not None:
        new.append(blocks.diagnosis(now, ev.name, job_id, diagnosis))
    return new


_STALE_INTERVALS = 3


def resource_blocks(
    state: ExperimentState, settings: Settings, *, now: float, progress: Mapping[str, EvalResult]
) -> list[list[str]]:
    """One block for each running eval whose CSV has recent numbers."""
    new = []
    files = OwnedFiles(os.geteuid())
    for ev in state.evals.values():
        if ev.state is not State.RUNNING or ev.output_dir is None:
            continue
        tail = files.read_tail(os.path.join(ev.output_dir, "gpu_metrics.csv"))
        tick = last_tick(parse(tail).rows) if tail is not None else None
        if tick is None or now - tick.at > _STALE_INTERVALS * settings.sample_interval:
            continue
        if tick.utilization_pct is None or tick.memory_used_mib is None or not tick.memory_total_mib:
            continue
        new.append(
            blocks.resource_status(
                now,
                ev.name,
                utilization_pct=tick.utilization_pct,
                memory_used_mib=tick.memory_used_mib,
                memory_total_mib=tick.memory_total_mib,
                so_far=progress.get(ev.name),
            )
        )
    return new
