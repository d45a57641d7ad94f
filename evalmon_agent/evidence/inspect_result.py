"""An inspect-ai log as `result` of summary.json. Pure."""

from __future__ import annotations

from evalmon_agent.evidence.inspect_log import InspectLog
from evalmon_agent.evidence.result import EvalResult


def to_result(log: InspectLog, *, path: str) -> EvalResult:
    """What the log says, with where it lies."""
    return EvalResult(
        status=log.status,
        samples_completed=log.samples_completed,
        samples_total=log.samples_total,
        scores=dict(log.scores),
        error=log.error,
        log=path,
    )
