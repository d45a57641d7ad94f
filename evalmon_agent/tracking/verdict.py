"""Says whether an eval succeeded: compares what Slurm, the job itself and its log say. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalmon_agent.tracking.path import slurm_says
from evalmon_agent.tracking.records import Eval, JobReport
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
    report = ev.latest.report if ev.latest is not None else None
    ended_zero = report is not None and report.exit_code == 0
    if ev.state is State.COMPLETED:
        command_failed = report is not None and (report.signal is not None or bool(report.exit_code))
        log_disagrees = log is not None and (log.success is False or (log.expected and log.success is None))
        return "suspect" if command_failed or log_disagrees else "ok"
    says_success = log is not None and log.success is True
    return "suspect" if ended_zero and says_success else "failed"


def witnesses_agree(ev: Eval) -> bool | None:
    """Whether Slurm and the job's report tell the same of its end; None if one of them says nothing."""
    attempt = ev.latest
    return agree(slurm_says(attempt), attempt.report) if ev.final and attempt is not None else None


def agree(said: State | None, report: JobReport | None) -> bool | None:
    """Whether Slurm's word on an attempt's end and the job's own are of one kind: success, or none.

    Which status or signal it was may differ: Slurm folds the one, and ends the other by itself.
    """
    if report is None or not report.ended or said not in TERMINAL:
        return None
    return (report.exit_code == 0) == (said is State.COMPLETED)


def says(report: JobReport | None) -> str | None:
    """What the job itself says of its end, in a few words."""
    if report is None:
        return None
    if report.signal is not None:
        return f"signal {report.signal}"
    return f"exit {report.exit_code}" if report.exit_code is not None else "started"
