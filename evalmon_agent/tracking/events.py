"""What happened: the events that a fold returns, each logged exactly once."""

from __future__ import annotations

from dataclasses import dataclass

from evalmon_agent.tracking.path import Witness
from evalmon_agent.tracking.records import Attempt
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class Transition:
    """An eval went from one state to the next; `at` is when, if anybody knows, `witness` who tells of an end."""

    name: str
    job_id: JobId
    previous: State
    current: State
    at: float | None
    attempt: Attempt | None
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of an attempt that ran and ended are known, or known to be unknown."""

    name: str
    job_id: JobId
    attempt: Attempt


Event = Transition | Measured
