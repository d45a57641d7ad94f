"""What Slurm's own word for the end decides, whatever the job printed. Pure."""

from __future__ import annotations

import re

from evalmon_agent.evidence.diagnosis.case import Case
from evalmon_agent.evidence.diagnosis.shells import SLURM, STEPD
from evalmon_agent.evidence.result import whole_s
from evalmon_agent.words.durations import human
from evalmon_agent.words.states import State

_CAUSES = {
    State.TIMEOUT: "time-limit",
    State.OUT_OF_MEMORY: "host-out-of-memory",
    State.CANCELLED: "cancelled",
    State.NODE_FAIL: "node-failure",
    State.BOOT_FAIL: "node-failure",
    State.PREEMPTED: "preempted",
    State.DEADLINE: "deadline",
    State.REVOKED: "revoked",
    State.LOST: "lost",
}
_SHOWN_BY = {
    State.TIMEOUT: re.compile(rf"(?:{SLURM}|srun: ).*DUE TO TIME LIMIT"),
    State.OUT_OF_MEMORY: re.compile(rf"{SLURM}.*(?:oom[_-]kill|Out Of Memory|memory limit)"),
    State.CANCELLED: re.compile(rf"{STEPD}\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT"),
    State.NODE_FAIL: re.compile(rf"{SLURM}.*(?:NODE FAILURE|[Nn]ode failure)"),
    State.PREEMPTED: re.compile(rf"{SLURM}.*DUE TO PREEMPTION"),
}


def cause_of(case: Case) -> str | None:
    """The cause, where the state alone is certain of it."""
    if case.state is State.OUT_OF_MEMORY and case.exit_code == 0 and case.result is not None and case.result.succeeded:
        return "bystander-out-of-memory"
    return _CAUSES.get(case.state) if case.state is not None else None


def shown_by(state: State | None) -> re.Pattern[str] | None:
    """How Slurm writes of it into the job's output."""
    return _SHOWN_BY.get(state) if state is not None else None


def in_words(case: Case) -> str:
    """What Slurm says, for a log that has no line of it."""
    if case.state is State.CANCELLED and case.cancelled_by is not None:
        return f"Slurm says CANCELLED by {case.cancelled_by}"
    if case.state is State.LOST:
        return "neither Slurm nor the job itself has been heard of"
    if case.elapsed_s is None:
        return f"Slurm says {case.state}"
    limit = f" of {human(case.time_limit_s)}" if case.state is State.TIMEOUT and case.time_limit_s is not None else ""
    return f"Slurm says {case.state} after {human(case.elapsed_s)}{limit}"


def advice(case: Case) -> str | None:
    """Better than what is said of the cause in general, where figures are known."""
    if case.state is not State.TIMEOUT or case.result is None:
        return None
    all_s = whole_s(case.result, case.elapsed_s)
    if all_s is None:
        return None
    done = f"{case.result.samples_completed} of {case.result.samples_total} samples"
    return f"Increase the eval's --time: {done} took {human(case.elapsed_s)}; at this pace all take {human(all_s)}"
