"""Finds the evals that need a person: those that may wait for ever, or run without a report. Pure.

Slurm's pending reasons are those of `job_reason_string` (slurm_protocol_defs.c, job_state_reason.c), 18.08 to 26.05.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from evalmon_agent.tracking.records import Alert, AlertKind, Attempt, Eval, ExperimentState
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class Wait:
    """A kind of pending reason: after how many polls it is reported, and what to do then."""

    polls: float
    pattern: str
    action: str


# How long each may last, in polls of a minute: what can never start is reported soon, what may pass later.
_NEVER, _HELD, _DOWN, _FULL = 4.8, 9.8, 29.8, 59.8
# How many polls an eval may run without a report: two, minus what timers may be late or early.
_UNREPORTED = 1.8

# The first match counts. Not listed: reasons that pass by themselves (Priority, Resources, Dependency, BeginTime,
# JobArrayTaskLimit, limits per user or account on jobs, CPUs, nodes and memory), and unknown ones.
_WAITS = (
    Wait(
        _HELD,
        r"launch failed requeued held|JobLaunchFailure|user env retrieval failed",
        "Slurm could not start it on its node; look at the node (scontrol show node), then: scontrol release {job}",
    ),
    Wait(
        _HELD,
        r"job requeued in held state|requeue.*h[eo]ld|JobHoldMaxRequeue|MaxRequeue|special.?exit",
        "It was requeued and is held back; once the cause is fixed: scontrol release {job}",
    ),
    Wait(_HELD, r"JobHeldUser", "It is held; to let it start: scontrol release {job}"),
    Wait(_HELD, r"JobHeldAdmin|Held", "An administrator holds it; ask them, or: scancel {job}"),
    Wait(_NEVER, r"DependencyNeverSatisfied", "What it waits for failed; scancel {job}, and submit it again without"),
    Wait(
        _NEVER,
        r"PartitionTimeLimit",
        "It asks for more time than the partition gives; scontrol update JobId={job} TimeLimit=..., or move it",
    ),
    Wait(
        _NEVER,
        r"PartitionNodeLimit",
        "It asks for more (or fewer) nodes than the partition gives; scancel {job}, submit it with a number that fits",
    ),
    Wait(
        _NEVER,
        r"BadConstraints|NodeConfig|node configuration is not available",
        "No node can give what it asks for (constraint, memory, gres); scancel {job}, submit it with what sinfo -a has",
    ),
    Wait(
        _NEVER,
        r"InvalidAccount|AccountNotAllowed",
        "Its account may not be used there; scontrol update JobId={job} Account=...",
    ),
    Wait(_NEVER, r"InvalidQOS|QOSNotAllowed", "Its QOS may not be used there; scontrol update JobId={job} QOS=..."),
    Wait(
        _NEVER,
        r"(?:QOS|Assoc)\w*(?:PerJob|MaxWallDuration|NotSatisfied|Min(?:Cpu|Node|Mem|GRES|BB|Billing|Lic))",
        "One job may not request so much (or little); scancel {job}, and submit it within the limit",
    ),
    Wait(
        _NEVER, r"BurstBufferOperation|DeadLine|SystemFailure", "It will never start; scancel {job} and submit it again"
    ),
    Wait(
        _DOWN,
        r"ReqNodeNotAvail|Nodes required for job are DOWN|NodeDown|FrontEndDown",
        "Its nodes are down, drained or reserved (sinfo -aR); wait, or widen its partition or constraint",
    ),
    Wait(
        _DOWN,
        r"PartitionDown|PartitionInactive",
        "Its partition takes no jobs now (sinfo -a); wait, or use another one",
    ),
    Wait(_DOWN, r"Reservation", "Its reservation has not begun, or is gone (scontrol show reservation)"),
    Wait(_DOWN, r"Licenses", "Its licences are in use or do not exist (scontrol show licenses)"),
    Wait(
        _FULL,
        r"(?:QOS|Assoc)Grp\w*|QOSUsageThreshold|(?:QOS|Assoc)\w*(?:Minutes|RunMin)\w*|AssociationTimeLimit|QOSTimeLimit",
        "The limit that your group shares is used up; wait, or ask the account's manager",
    ),
)

# Limits in which a sidecar counts itself: jobs, CPUs, nodes, memory, of the user or of a group.
_TAKEN_BY_US = re.compile(
    r"(?:QOS|Assoc)?(?:Max|Grp)(?:Submit)?(?:Jobs?|Cpus?|Nodes?|Mem(?:ory)?)\w*|QOSJobLimit|AssociationJobLimit",
    re.IGNORECASE,
)
_OF_ONE_JOB = re.compile(r"PerJob|Minutes|RunMin", re.IGNORECASE)


def base(reason: str) -> str:
    """The reason without details: `ReqNodeNotAvail, UnavailableNodes:n1` is the same reason with other nodes."""
    return reason.partition(",")[0].replace("_", " ").strip()


def action_for(reason: str, job_id: str) -> str | None:
    """What to do about a pending reason; None for a reason that passes by itself, or an unknown one."""
    wait = _wait_of(reason)
    return None if wait is None else wait.action.format(job=job_id)


@dataclass(frozen=True, slots=True)
class ComingAlert:
    """The alert that an eval gets if it stays as it is: so many polls after `since`."""

    kind: AlertKind
    since: float
    polls: float
    reason: str = ""


def coming_alert(ev: Eval) -> ComingAlert | None:
    """That it waits for what may last, or runs without a report of its own, if the log has no such alert yet."""
    attempt = ev.latest
    if ev.final or attempt is None:
        return None
    if attempt.queue_state is State.RUNNING:
        is_unreported = attempt.report is None and ev.jobs[-1].token is not None and not _was_told(ev, "unreported")
        since = attempt.running_seen_at
        return ComingAlert("unreported", since, _UNREPORTED) if is_unreported and since is not None else None
    if pending(ev) is None or not attempt.queue_reason or _was_told(ev, "waits", attempt.queue_reason):
        return None
    wait = _wait_of(attempt.queue_reason)
    return None if wait is None else ComingAlert("waits", attempt.queue_at, wait.polls, attempt.queue_reason)


def changed_alerts(ev: Eval) -> list[Alert]:
    """The alerts whose cause is gone (it waits for something else, reported, is over), and those where it is back."""
    return [
        alert
        for job in ev.jobs
        for alert in job.alerts
        if (alert.cleared_at is None) != (job is ev.jobs[-1] and _is_still_so(ev, alert))
    ]


def _is_still_so(ev: Eval, alert: Alert) -> bool:
    if alert.kind == "unreported":
        last = ev.latest
        return not ev.final and last is not None and last.queue_state is State.RUNNING and last.report is None
    attempt = pending(ev)
    return attempt is not None and base(attempt.queue_reason) == base(alert.reason)


def _was_told(ev: Eval, kind: AlertKind, reason: str = "") -> bool:
    return any(alert.kind == kind and base(alert.reason) == base(reason) for alert in ev.jobs[-1].alerts)


def starved_by(state: ExperimentState) -> str | None:
    """The limit for which evals wait while none of them runs; the sidecar, which counts too, may be in their way."""
    active = [ev for ev in state.evals.values() if not ev.final]
    if any(ev.state in {State.RUNNING, State.SUSPENDED} for ev in active):
        return None
    reasons = (attempt.queue_reason for ev in active if (attempt := pending(ev)) is not None)
    return next((reason for reason in reasons if _is_taken_by_us(reason)), None)


@lru_cache(maxsize=1024)
def _is_taken_by_us(reason: str) -> bool:
    return _TAKEN_BY_US.fullmatch(base(reason)) is not None and _OF_ONE_JOB.search(reason) is None


def pending(ev: Eval) -> Attempt | None:
    """The latest attempt, if squeue shows it waiting."""
    attempt = None if ev.final or not ev.jobs or ev.jobs[-1].missing_at is not None else ev.latest
    return attempt if attempt is not None and attempt.queue_state is State.PENDING else None


@lru_cache(maxsize=1024)
def _wait_of(reason: str) -> Wait | None:
    return next((wait for wait in _WAITS if re.search(wait.pattern, base(reason), re.IGNORECASE)), None)
