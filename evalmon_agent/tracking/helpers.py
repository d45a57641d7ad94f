"""Which jobs are ours: the sidecar and the completion job, from the registry. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.tracking.records import Eval, ExperimentState, HelperJob
from evalmon_agent.tracking.registry import Entry, What
from evalmon_agent.words.states import TERMINAL

COMPLETE = "complete"
SUBMITTED = "submitted"
REFUSED = "refused"
WAITS = "waits"
"""Refused as long as so many jobs are there."""


def take_helpers(state: ExperimentState, entries: Sequence[Entry]) -> None:
    """Set `sidecar` and `completion` to the latest that Slurm took; evals active again reopen a completion."""
    sidecar = _latest(entries, "sidecar")
    if sidecar is not None:
        state.sidecar = HelperJob(job_id=sidecar)
    _take_completion(state, entries)
    completion = state.completion
    are_over = not state.waiting and all(map(_looks_over, state.evals.values()))
    if completion is not None and completion.status == COMPLETE and not are_over:
        completion.status = SUBMITTED if completion.job_id else None


def _take_completion(state: ExperimentState, entries: Sequence[Entry]) -> None:
    job_id = _latest(entries, "completion")
    refusals = [e.refused for e in entries if e.intent.what == "completion" and e.refused is not None]
    if job_id is None and not refusals:
        return
    if state.completion is None:
        state.completion = HelperJob()
    completion = state.completion
    refused = WAITS if refusals and refusals[-1].waits else REFUSED
    is_news = completion.job_id != job_id or completion.status not in {SUBMITTED, refused}
    if completion.status != COMPLETE and is_news:
        completion.status = SUBMITTED if job_id is not None else refused
    completion.job_id = job_id


def all_final(state: ExperimentState) -> bool:
    """Whether there are evals and every one of them is over for good; one that waits to be submitted is not."""
    return bool(state.evals) and not state.waiting and all(ev.final for ev in state.evals.values())


def _looks_over(ev: Eval) -> bool:
    """Over, as far as the log says: after a lost state the log knows before Slurm was asked again."""
    return ev.final or (bool(ev.logged) and ev.logged[-1][0] == ev.job_id and ev.logged[-1][1] in TERMINAL)


def _latest(entries: Sequence[Entry], what: What) -> str | None:
    """The job that Slurm took last. One that is being submitted, or was refused, does not make it forgotten."""
    accepted = (entry.accepted for entry in reversed(entries) if entry.intent.what == what)
    return next((found.job_id for found in accepted if found is not None), None)
