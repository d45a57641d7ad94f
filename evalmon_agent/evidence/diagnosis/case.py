"""What is known of an attempt that ended, for the question why. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class Unopened:
    """What Slurm could not open to start the job: the directory of its output, or its input file; None: unknown.

    `problem` is what the system says of it here; None where it is in order, seen from here.
    """

    what: Literal["output", "input"] = "output"
    path: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`state` is Slurm's; `exit_code` and `signal` the command's; unknown is None."""

    state: State | None
    exit_code: int | None = None
    signal: int | None = None
    elapsed_s: float | None = None
    time_limit_s: float | None = None
    cancelled_by: str | None = None
    """Who cancelled it, in words."""
    output: str = ""
    """The end of what the job printed."""
    result: EvalResult | None = None
    expects_log: bool = False
    unopened: Unopened | None = None

    @property
    def succeeded(self) -> bool:
        """Whether neither Slurm, nor the command, nor the eval's log tells of a failure."""
        ended_well = not self.exit_code and not self.signal
        return self.state is State.COMPLETED and ended_well and not self.log_disagrees

    @property
    def log_disagrees(self) -> bool:
        """Whether the eval's log does not say success, or is missing."""
        return self.expects_log if self.result is None else not self.result.succeeded
