"""Writes the summary and logs one ALL_COMPLETE, once every eval is over and measured."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from evalmon_agent.collect.collect import progress
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.experiment import state as state_file
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.logbook import blocks
from evalmon_agent.monitor.poll import Observer, counts
from evalmon_agent.summary import openmetrics
from evalmon_agent.summary.attention import verdict_line
from evalmon_agent.summary.build import build, total_time_s
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.monitor_job_states import COMPLETE, all_final
from evalmon_agent.tracking.records import ExperimentState, MonitorJob
from evalmon_agent.tracking.timeline import unmeasured
from evalmon_agent.tracking.verdict import reason, settle, verdict

_SPARING = 20


def is_ready(state: ExperimentState) -> bool:
    """Whether nothing is left to wait for."""
    return all_final(state) and next(unmeasured(state), None) is None


def is_anything_owed(state: ExperimentState) -> bool:
    """Whether an eval is still active, or still has to be measured."""
    return not all(ev.final for ev in state.counted) or next(unmeasured(state), None) is not None


def is_complete(state: ExperimentState) -> bool:
    """Whether ALL_COMPLETE was written for the evals as they are."""
    return state.completion is not None and state.completion.status == COMPLETE


def finalize(observer: Observer) -> ExperimentState:
    """Mark the completion and log ALL_COMPLETE if it is due, then write the summary.

    Two at once, or one after a kill: ALL_COMPLETE is there once, and the summary is written again, the same.
    """

    def change(state: ExperimentState, now: float) -> list[list[str]]:
        if is_complete(state) or not is_ready(state):
            return []
        state.completion = MonitorJob(state.completion.job_id if state.completion else None, COMPLETE)
        state.completions += 1
        complete = blocks.all_complete(
            now, counts(state), total_time_s=total_time_s(state), outcome=verdict_line(_summary(observer, state))
        )
        return [*_changed_verdicts(state, now, is_first=True), complete]

    # The summary of complete evals stands before the log says that it does.
    snapshot = state_file.load(observer.experiment)
    if snapshot is not None and is_ready(snapshot) and not is_complete(snapshot):
        snapshot.completion = MonitorJob(None, COMPLETE)
        write_summary(observer, snapshot)
    return observer.transact(change)


def tell_changed_verdicts(observer: Observer, state: ExperimentState) -> ExperimentState:
    """Log VERDICT_CHANGED for each eval whose verdict is not the one any more that the log told at ALL_COMPLETE."""
    if not state.completions:
        return state
    return observer.transact(_changed_verdicts)


def _changed_verdicts(state: ExperimentState, now: float, *, is_first: bool = False) -> list[list[str]]:
    """The blocks of verdicts that changed since they were told. `is_first`: those of all evals count as told now."""
    settled = settle(state)
    told, new = dict[str, str](), []
    for ev in state.evals.values():
        is_dropped = ev.name in state.dropped
        outcome = "dropped" if is_dropped else verdict(ev, settled[ev.name])
        previous = state.told.get(ev.job_id)
        # A lost state had told them.
        if outcome == "active" or (previous is None and state.told and not is_first):
            continue
        told[ev.job_id] = outcome
        if previous not in {None, outcome}:
            why = "evalmon drop" if is_dropped else reason(settled[ev.name])
            new.append(
                blocks.verdict_changed(now, ev.name, ev.job_id, previous=str(previous), current=outcome, why=why)
            )
    state.told = told
    return new


def write_summary(observer: Observer, state: ExperimentState) -> Summary:
    """Replace summary.json, summary.md and evalmon.prom by what is known now."""
    experiment = observer.experiment
    summary = _summary(observer, state, progress=progress(experiment, state))
    document = msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n"
    replace_atomically(experiment.summary_json, document, mode=observer.mode)
    replace_atomically(experiment.summary_md, render(summary).encode(), mode=observer.mode)
    _write_metrics(observer, openmetrics.figures(summary))
    return summary


class PolledMetrics:
    """Keeps evalmon.prom up to date after each poll: its figures where the state has changed, else the poll's time.

    New figures take a whole summary, seconds for 10,000 evals, so they wait for 20 times as long as the last took.
    """

    def __init__(self) -> None:
        self._figures: str | None = None
        self._generation = -1
        self._due_at = 0.0

    def write(self, observer: Observer, state: ExperimentState) -> None:
        """OSError: the file is as it was."""
        began_at = time.monotonic()
        if self._figures is None or (state.generation != self._generation and began_at >= self._due_at):
            self._figures, self._generation = openmetrics.figures(_summary(observer, state)), state.generation
            self._due_at = time.monotonic() + _SPARING * (time.monotonic() - began_at)
        _write_metrics(observer, self._figures)


def _write_metrics(observer: Observer, figures: str) -> None:
    experiment = observer.experiment
    last = state_file.load_heartbeat(experiment)
    text = openmetrics.with_poll(figures, experiment.root, None if last is None else last.polled_at or None)
    replace_atomically(experiment.metrics, text.encode(), mode=observer.mode)


def _summary(
    observer: Observer, state: ExperimentState, *, progress: Mapping[str, EvalResult] | None = None
) -> Summary:
    return build(state, now=observer.now(), settings=observer.settings, progress=progress)
