"""What does an eval's own log say of it: the result, whatever kind of eval it is. Pure."""

from __future__ import annotations

from msgspec import Struct

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
