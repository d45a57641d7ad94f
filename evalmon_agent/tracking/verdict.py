"""Did the eval succeed: what Slurm says against what the job itself and its log say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalmon_agent.tracking.path import incarnations, slurm_says
from evalmon_agent.tracking.records import Attempt, Eval, Own
from evalmon_agent.words.states import TERMINAL, State

Verdict = Literal["ok", "failed", "suspect", "active"]


@dataclass(frozen=True, slots=True)
class LogSays:
    """What the eval's own log says, where it was looked for.

    `expected`: the job ran an eval that writes one; `success`: it says success with all samples; None: none found.
    """

    expected: bool
    success: bool | None


def verdict(ev: Eval, log: LogSays | None) -> Verdict:
    """`ok`, `failed`, `suspect` (the witnesses disagree) or `active`, as the contract defines them."""
    if not ev.final:
        return "active"
    own = latest_own(ev)
    ended_zero = own is not None and own.exit_code == 0
    if ev.state is State.COMPLETED:
        command_failed = own is not None and (own.signal is not None or bool(own.exit_code))
        log_disagrees = log is not None and (log.success is False or (log.expected and log.success is None))
        return "suspect" if command_failed or log_disagrees else "ok"
    says_success = log is not None and log.success is True
    return "suspect" if ended_zero and says_success else "failed"


def witnesses_agree(ev: Eval) -> bool | None:
    """Whether Slurm and the job's report tell the same of its end; None if one of them says nothing."""
    known = incarnations(ev, ev.job_id) if ev.final else None
    return agree(slurm_says(known[-1].attempt), known[-1].own) if known else None


def agree(said: State | None, own: Own | None) -> bool | None:
    """Whether Slurm's word on an attempt's end and the job's own are of one kind: success, or none.

    Which status or signal it was may differ: Slurm folds the one, and ends the other by itself.
    """
    if own is None or not own.ended or said not in TERMINAL:
        return None
    return (own.exit_code == 0) == (said is State.COMPLETED)


def says(own: Own | None) -> str | None:
    """What the job itself says of its end, in a few words."""
    if own is None:
        return None
    if own.signal is not None:
        return f"signal {own.signal}"
    return f"exit {own.exit_code}" if own.exit_code is not None else "started"


def latest_attempt(ev: Eval) -> Attempt | None:
    """The latest attempt of the eval's latest job."""
    return next((a for a in reversed(ev.attempts) if a.job_id == ev.job_id), None)


def latest_own(ev: Eval) -> Own | None:
    """What the job reported of its latest attempt."""
    known = incarnations(ev, ev.job_id)
    return known[-1].own if known else None
