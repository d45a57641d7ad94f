"""Parses the states that Slurm prints, in all their forms, as the states of the log."""

from __future__ import annotations

import enum
import re

from evalmon_agent.words.sizes import number


class State(enum.StrEnum):
    """A state of the log. UNSUBMITTED and LOST are evalmon's own, the others Slurm's."""

    UNSUBMITTED = "UNSUBMITTED"
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


ACTIVE = frozenset({State.UNSUBMITTED, State.PENDING, State.RUNNING, State.SUSPENDED, State.REQUEUED})

TERMINAL = frozenset(State) - ACTIVE

MAY_RUN_AGAIN = frozenset({State.NODE_FAIL, State.PREEMPTED, State.BOOT_FAIL, State.REVOKED})
"""Terminal, but final only when squeue no longer has the job: Slurm may start a new attempt."""

# Slurm's base states and flags, with squeue's short codes (job_state_string in slurm_protocol_defs.c).
# EXPEDITING is said of a job that ended and keeps its nodes while Slurm looks whether to requeue it.
_WORDS_OF = {
    State.PENDING: "PENDING PD CONFIGURING CF POWER_UP_NODE RESV_DEL_HOLD RD",
    State.RUNNING: "RUNNING R COMPLETING CG STAGE_OUT SO RESIZING RS SIGNALING SI STOPPED ST EXPEDITING",
    State.SUSPENDED: "SUSPENDED S",
    State.REQUEUED: "REQUEUED RQ REQUEUE_HOLD RH REQUEUE_FED RF SPECIAL_EXIT SE",
    State.COMPLETED: "COMPLETED CD",
    State.FAILED: "FAILED F",
    State.CANCELLED: "CANCELLED CA",
    State.TIMEOUT: "TIMEOUT TO",
    State.OUT_OF_MEMORY: "OUT_OF_MEMORY OOM",
    State.NODE_FAIL: "NODE_FAIL NF",
    State.PREEMPTED: "PREEMPTED PR",
    State.BOOT_FAIL: "BOOT_FAIL BF",
    State.DEADLINE: "DEADLINE DL",
    State.REVOKED: "REVOKED RV",
}
_WORDS = {word: state for state, words in _WORDS_OF.items() for word in words.split()}

_SHORTEST_CUT = 4
_CANCELLED_BY = re.compile(r"CANCELLED by (\d{1,10})\b", re.ASCII)


_IN_WORDS = {
    State.OUT_OF_MEMORY: "out of memory",
    State.TIMEOUT: "time limit",
    State.NODE_FAIL: "node failure",
    State.BOOT_FAIL: "boot failure",
    State.UNSUBMITTED: "not submitted yet",
}


def in_words(state: State) -> str:
    """`running`, `time limit`, `not submitted yet`."""
    return _IN_WORDS.get(state, state.lower())


def exit_in_words(exit_code: int | None, signal: int | None) -> str:
    """`signal 9` or `exit status 1`; "" for success, and if neither is known."""
    if signal:
        return f"signal {number(signal)}"
    return f"exit status {number(exit_code)}" if exit_code else ""


def parse_state(text: str) -> State | None:
    """The state that squeue, sacct, scontrol or seff name; None for an unknown word.

    Understood: `CANCELLED by 1001`, `CANCELLED+` and `OUT_OF_ME+` (cut to a column's width), `CD`,
    lower case, and a base state with flags, `COMPLETED,REQUEUED`: what is not over outweighs what is.
    """
    words = text.split(maxsplit=1)
    if not words:
        return None
    states = [_parse_word(word) for word in words[0].upper().replace("|", ",").split(",")]
    known = [state for state in states if state is not None]
    if len(known) < len(states):
        return None
    # Flags follow the base state and say more than it does.
    return next((state for state in reversed(known) if state in ACTIVE), known[-1])


def cancelled_by(text: str) -> int | None:
    """The user id in sacct's `CANCELLED by 1001`."""
    match = _CANCELLED_BY.match(text)
    return int(match[1]) if match else None


def _parse_word(word: str) -> State | None:
    cut = word.removesuffix("+")
    if cut == word:
        return _WORDS.get(word)
    # `COMPLET+` may be COMPLETED or COMPLETING: a cut word counts only if all that it can be agree.
    meant = {state for full, state in _WORDS.items() if full.startswith(cut)}
    return meant.pop() if len(meant) == 1 and len(cut) >= _SHORTEST_CUT else None
