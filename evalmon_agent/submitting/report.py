"""What did a command submit, and what not: for people and for --json."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalmon_agent.submitting.accompany import Accompanied, HelperReport


@dataclass(frozen=True, slots=True)
class Totals:
    """What a dry run would submit: evals (each task of an array), jobs of evalmon's own, GPUs times time limits.

    `gpu_hours` is of those evals of which it is known: all but `evals_without_gpu_hours`; None if it is of none.
    """

    evals: int
    helper_jobs: int
    gpu_hours: float | None
    evals_without_gpu_hours: int


@dataclass(slots=True)
class SubmitReport:
    """What was done, for people and for --json; `refused` holds Slurm's words verbatim, `warnings` what will fail."""

    submitted: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str | None]] = field(default_factory=list)
    waiting: list[dict[str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    completion: HelperReport | None = None
    sidecar: HelperReport | None = None
    totals: Totals | None = None

    def take(self, ours: Accompanied) -> None:
        """Add what became of our own jobs."""
        self.completion, self.sidecar = ours.completion, ours.sidecar

    @property
    def exit_status(self) -> int:
        """1 if Slurm refused something."""
        helpers = [self.completion, self.sidecar]
        return int(bool(self.refused) or any(h is not None and h.status == "refused" for h in helpers))
