"""Which jobs are ours: the sidecar and the completion job, from the registry. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.tracking.records import Eval, ExperimentState, HelperJob
from evalmon_agent.tracking.registry import Entry
from evalmon_agent.words.states import TERMINAL

COMPLETE = "complete"
SUBMITTED = "submitted"
REFUSED = "refused"


def take_helpers(state: ExperimentState, entries: Sequence[Entry]) -> None:
    """Set `sidecar` and `completion` to the latest ones; evals that are active again reopen a completion."""
    sidecar = _latest(entries, "sidecar")
    if sidecar is not None and sidecar.accepted is not None:
        state.sidecar = HelperJob(job_id=sidecar.accepted.job_id)
    completion = _latest(entries, "completion")
    if completion is not None:
        job_id = completion.accepted.job_id if completion.accepted is not None else None
        status = SUBMITTED if job_id is not None else REFUSED
        if state.completion is None:
            state.completion = HelperJob(job_id, status)
        elif state.completion.job_id != job_id:
            state.completion.job_id = job_id
            if state.completion.status != COMPLETE:
                state.completion.status = status
    if (
        state.completion is not None
        and state.completion.status == COMPLETE
        and not all(map(_looks_over, state.evals.values()))
    ):
        state.completion.status = SUBMITTED if state.completion.job_id else None


def all_final(state: ExperimentState) -> bool:
    """Whether there are evals and every one of them is over for good."""
    return bool(state.evals) and all(ev.final for ev in state.evals.values())


def _looks_over(ev: Eval) -> bool:
    """Over, as far as the log says: after a lost state the log knows before Slurm was asked again."""
    return ev.final or (bool(ev.logged) and ev.logged[-1][0] == ev.job_id and ev.logged[-1][1] in TERMINAL)


def _latest(entries: Sequence[Entry], what: str) -> Entry | None:
    return next((e for e in reversed(entries) if e.intent.what == what and not e.abandoned), None)
