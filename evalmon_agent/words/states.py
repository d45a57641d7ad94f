"""Which state is meant: Slurm's words, in every form it prints them, as the states of the log."""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """A state of the log (contract, section 5); all but LOST are said by Slurm, LOST only by us."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    REQUEUED = "REQUEUED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    REVOKED = "REVOKED"
    LOST = "LOST"


ACTIVE = frozenset({State.PENDING, State.RUNNING, State.SUSPENDED, State.REQUEUED})

TERMINAL = frozenset(State) - ACTIVE

MAY_RUN_AGAIN = frozenset({State.NODE_FAIL, State.PREEMPTED, State.BOOT_FAIL, State.REVOKED})
"""Terminal, but final only when squeue no longer has the job: Slurm may start a new attempt."""
