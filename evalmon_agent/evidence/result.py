"""What does an eval's own log say of it: the result, whatever kind of eval it is. Pure."""

from __future__ import annotations

from msgspec import Struct

from evalmon_agent.evidence.eval_log import EvalLog
from evalmon_agent.words.secrets import masked

UNREADABLE = "unreadable"
"""Our word for a log that is there and cannot be read."""


class EvalResult(Struct, frozen=True, kw_only=True):
    """`result` of summary.json. `status` is the log's word; `scores`: {scorer/metric: value}; unknown is null."""

    status: str
    samples_completed: int | None = None
    samples_total: int | None = None
    scores: dict[str, float] = {}
    error: str | None = None
    log: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the log says success, with all samples done."""
        unfinished = (
            self.samples_completed is not None
            and self.samples_total is not None
            and self.samples_completed < self.samples_total
        )
        return self.status == "success" and not unfinished


def to_result(log: EvalLog, *, path: str) -> EvalResult:
    """What the log says, with where it lies; what looks like a secret in its error is masked."""
    return EvalResult(
        status=log.status,
        samples_completed=log.samples_completed,
        samples_total=log.samples_total,
        scores=dict(log.scores),
        error=None if log.error is None else masked(log.error),
        log=path,
    )


def whole_s(result: EvalResult | None, elapsed_s: float | None) -> float | None:
    """How long all samples would take at the pace of those that were finished; None where that is not known."""
    if result is None or elapsed_s is None or not result.samples_completed or not result.samples_total:
        return None
    done = result.samples_completed / result.samples_total
    return elapsed_s / done if done < 1 else None
