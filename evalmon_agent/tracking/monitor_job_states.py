"""Keeps the state of the monitor jobs (sidecar job, completion job), from the registry and squeue. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.tracking.records import Eval, ExperimentState, MonitorJob, QueueAnswer
from evalmon_agent.tracking.registry import Entry, What
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL

COMPLETE = "complete"
SUBMITTED = "submitted"
STOPPED = "stopped"
REFUSED = "refused"
WAITS = "waits"
"""Refused only because too many jobs are in the queue."""


def update_monitor_jobs(state: ExperimentState, entries: Sequence[Entry]) -> None:
    """Set `sidecar` and `completion` to the latest that Slurm accepted; active evals reopen a completion."""
    sidecar = _latest(entries, "sidecar")
    if sidecar is not None and (state.sidecar is None or state.sidecar.job_id != sidecar):
        state.sidecar = MonitorJob(job_id=sidecar)
    _update_completion(state, entries)
    completion = state.completion
    if completion is None or completion.status != COMPLETE:
        return
    if state.waiting or not all(map(_looks_over, state.counted)):
        completion.status = SUBMITTED if completion.job_id else None


def _update_completion(state: ExperimentState, entries: Sequence[Entry]) -> None:
    job_id = _latest(entries, "completion")
    refusals = [e.refused for e in entries if e.submission.what == "completion" and e.refused is not None]
    if job_id is None and not refusals:
        return
    if state.completion is None:
        state.completion = MonitorJob()
    completion = state.completion
    refused = WAITS if refusals and refusals[-1].waits else REFUSED
    is_news = completion.job_id != job_id or completion.status not in {SUBMITTED, STOPPED, refused}
    if completion.status != COMPLETE and is_news:
        completion.status = SUBMITTED if job_id is not None else refused
    if completion.job_id != job_id:
        completion.job_id, completion.alive = job_id, None
    if completion.status == SUBMITTED and completion.alive is False and _is_due_again(entries):
        completion.status = WAITS


def _is_due_again(entries: Sequence[Entry]) -> bool:
    """Whether the successor of the last completion job was refused for lack of room."""
    answered = (e for e in reversed(entries) if e.submission.what == "completion" and (e.accepted or e.refused))
    last = next(answered, None)
    return last is not None and last.accepted is None and last.refused is not None and last.refused.waits


def update_presence(state: ExperimentState, answer: QueueAnswer) -> None:
    """Record which monitor jobs squeue shows as not over, so that others need not ask Slurm again."""
    ours = {monitor_job.job_id for monitor_job in (state.sidecar, state.completion) if monitor_job is not None}
    active = {row.job_id for row in answer.rows if row.job_id in ours and row.goes_on}
    for monitor_job in (state.sidecar, state.completion):
        if monitor_job is not None and monitor_job.job_id is not None:
            monitor_job.alive = monitor_job.job_id in active


def somebody_completes(state: ExperimentState) -> bool:
    """Whether a monitor job that will do the rest is in the queue, as far as is known."""
    completion, sidecar = state.completion, state.sidecar
    if completion is not None and completion.status == STOPPED:
        return False
    watches = sidecar is not None and sidecar.job_id is not None and sidecar.alive is not False
    return watches or has_completion_job(state)


def has_completion_job(state: ExperimentState) -> bool:
    """Whether a completion job is in the queue, as far as is known."""
    completion = state.completion
    is_there = completion is not None and completion.job_id is not None and completion.alive is not False
    return is_there and completion is not None and completion.status == SUBMITTED


def lacks_completion(state: ExperimentState) -> bool:
    """Whether evals are active that no completion job waits for: they came (back) after it, or it found no room."""
    completion = state.completion
    if completion is None or all(map(_looks_over, state.counted)):
        return False
    is_gone = completion.status == SUBMITTED and completion.alive is False and state.completions > 0
    return is_gone or completion.status == WAITS


def all_final(state: ExperimentState) -> bool:
    """Whether there are evals and all are over for good; an eval that is still to be submitted is not over.

    One that Slurm refused is: it comes only if somebody submits it again.
    """
    are_there = bool(state.evals or state.refused or state.dropped)
    return are_there and not has_more_to_come(state) and all(ev.final for ev in state.counted)


def has_more_to_come(state: ExperimentState) -> bool:
    """Whether evals wait to be submitted, or are being submitted (by a process that may have died)."""
    return bool(state.waiting or state.on_their_way)


def _looks_over(ev: Eval) -> bool:
    """Whether it is over as far as the log says; after a lost state the log knows that before Slurm is asked again."""
    return ev.final or ev.logged_state(ev.job_id) in TERMINAL


def _latest(entries: Sequence[Entry], what: What) -> JobId | None:
    """The job that Slurm accepted last, even if a later one is being submitted or was refused."""
    accepted = (entry.accepted for entry in reversed(entries) if entry.submission.what == what)
    return next((acceptance.job_id for acceptance in accepted if acceptance is not None), None)
