"""Defines the records of a diagnosis: how an attempt ended (its input), and why (its result). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.words.states import State

UNKNOWN = "unknown"
_BETWEEN_LINES = " ⏎ "


@dataclass(frozen=True, slots=True)
class UnopenedFile:
    """What Slurm could not open to start the job: the directory of its output, or its input file; None: unknown.

    `problem`: the system's message about it here; None if it is in order, seen from here.
    """

    what: Literal["output", "input"] = "output"
    path: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended. `state` is Slurm's; `exit_code` and `signal` the command's; unknown is None."""

    state: State | None
    exit_code: int | None = None
    signal: int | None = None
    elapsed_s: float | None = None
    time_limit_s: float | None = None
    cancelled_by: str | None = None
    """Who cancelled it, as text."""
    output: str = ""
    """The end of the job's output."""
    result: EvalResult | None = None
    expects_log: bool = False
    """A program began an eval, and one of its logs is not there."""
    unopened: UnopenedFile | None = None

    @property
    def succeeded(self) -> bool:
        """Whether neither Slurm, nor the command, nor the eval's log reports a failure."""
        log_disagrees = self.expects_log if self.result is None else not self.result.succeeded
        return self.state is State.COMPLETED and not self.exit_code and not self.signal and not log_disagrees


class Diagnosis(Struct, frozen=True):
    """Why an attempt failed. `cause` is a stable slug, whose words are in `causes.CAUSES`.

    `evidence` is the line that shows the cause; of an unknown cause, the last lines of what the job printed.
    """

    cause: str
    evidence: str | None
    advice: str | None


def one_line(evidence: str) -> str:
    """Several last lines as one."""
    return evidence.replace("\n", _BETWEEN_LINES)
