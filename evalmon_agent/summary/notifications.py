"""Builds the notifications of what happened, in words for people. Pure.

Title and text hold names, verdicts, causes and Slurm's pending reasons, never a line that an eval printed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from evalmon_agent.evidence.diagnosis.causes import meaning
from evalmon_agent.evidence.diagnosis.records import UNKNOWN
from evalmon_agent.settings import NotificationEvent
from evalmon_agent.tracking.alerts import UNREPORTED, base, pending, told_as
from evalmon_agent.tracking.monitor_job_states import COMPLETE
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.results import NO_RESULTS, EvalResults, settle
from evalmon_agent.tracking.verdict import Verdict, diagnosis_of, verdict
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import State

SCHEMA = 1
Level = Literal["info", "warning", "error"]
_LISTED = 10
"""How many evals a text names."""
_UNREPORTED = "without reporting to evalmon"
_NEEDS_ATTENTION = ("failed", "suspect", "refused")


class Notification(Struct, frozen=True, kw_only=True):
    """One event, as `notify_command` gets it. `id` tells it from all others; `summary` is the path of summary.json."""

    schema: int = SCHEMA
    id: str
    event: NotificationEvent
    experiment: str
    at: str
    title: str
    text: str
    level: Level
    evals: list[str]
    summary: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one eval ended. `cause` is one of `causes.CAUSES`, None where it succeeded."""

    name: str
    verdict: Verdict
    cause: str | None = None


def notifications(state: ExperimentState, failures: Iterable[Outcome], *, now: float) -> list[Notification]:
    """What is to be told now, each once: `state.notified` has what was told. `failures`: evals that ended just now."""
    return [
        *_outage(state, now),
        *_failures(state, failures, now),
        *_alerts(state, now),
        *_complete(state, now),
    ]


def verdict_line(outcomes: Sequence[Outcome]) -> str:
    """The outcome in one line: `7 of 8 evals succeeded; 1 needs you: r1/a/epoch0 (the GPU's memory was not enough)`."""
    number = Counter(outcome.verdict for outcome in outcomes)
    all_in_all = len(outcomes) - number["dropped"]
    line = f"{number['ok']} of {_evals(all_in_all)} succeeded"
    need = [outcome for outcome in outcomes if outcome.verdict in _NEEDS_ATTENTION]
    if need:
        line += f"; {len(need)} need{'s' * (len(need) == 1)} you"
        line += f": {printable(need[0].name)} ({_why(need[0])})" if len(need) == 1 else ""
    if number["unverified"]:
        line += f"; {number['unverified']} could not be verified"
    return line


def a_test(experiment: str, *, now: float) -> Notification:
    """What `evalmon notify --test` sends."""
    text = "Notifications of this experiment reach you."
    return _notification(experiment, "recovered", ["test", now], now=now, title="A test by evalmon notify", text=text)


def _outage(state: ExperimentState, now: float) -> list[Notification]:
    told, outage = state.notified.outage_since, state.outage
    since = outage.since if outage is not None and outage.alerted else None
    if since == told:
        return []
    state.notified.outage_since = since
    new = []
    if told is not None:
        text = "What happened meanwhile is being caught up with."
        new.append(
            _notification(state.experiment, "recovered", [told], now=now, title="Slurm answers again", text=text)
        )
    if since is not None and outage is not None:
        title = f"Slurm has not answered since {_clock(since)}"
        text = f"{outage.failures} polls in a row failed. Monitoring goes on and catches up when Slurm answers."
        new.append(_notification(state.experiment, "outage", [since], now=now, title=title, text=text, level="warning"))
    return new


def _failures(state: ExperimentState, failures: Iterable[Outcome], now: float) -> list[Notification]:
    """One for the first evals of each cause."""
    by_cause: dict[str, list[Outcome]] = {}
    for outcome in failures:
        by_cause.setdefault(outcome.cause or UNKNOWN, []).append(outcome)
    new = []
    for cause, outcomes in by_cause.items():
        if cause in state.notified.causes:
            continue
        state.notified.causes.append(cause)
        names = [outcome.name for outcome in outcomes]
        verb = "failed" if all(outcome.verdict == "failed" for outcome in outcomes) else "did not succeed"
        title = f"{_who(names)} {verb}: {meaning(cause)}"
        lines = (
            f"Cause: {cause} ({meaning(cause)})",
            f"Evals: {_listed(names)}",
            "Further evals that fail for this cause are in the summary only.",
            f"Details: {_file(state.experiment, 'monitor.log')}",
        )
        text = "\n".join(lines)
        new.append(
            _notification(
                state.experiment, "failed", [cause], now=now, title=title, text=text, level="error", evals=names
            )
        )
    return new


def _alerts(state: ExperimentState, now: float) -> list[Notification]:
    """One when an alert is raised for the first eval, and one when it is cleared for the last."""
    told, present = state.notified.alerts, _present_alerts(state)
    state.notified.alerts = present
    new = []
    for what, jobs in present.items():
        if what not in told:
            names, key = list(jobs), [what, *sorted(jobs.values())]
            title = f"{_who(names)} {_verb(names, what)} {what}"
            text = f"Evals: {_listed(names)}\nWhat to do: see ALERT in {_file(state.experiment, 'monitor.log')}"
            new.append(
                _notification(
                    state.experiment, "alert", key, now=now, title=title, text=text, level="warning", evals=names
                )
            )
    for what, jobs in told.items():
        if what not in present:
            names, key = list(jobs), [what, *sorted(jobs.values())]
            title, text = f"No longer: {_who(names)} {_verb(names, what)} {what}", f"Evals: {_listed(names)}"
            new.append(
                _notification(state.experiment, "alert-cleared", key, now=now, title=title, text=text, evals=names)
            )
    return new


def _present_alerts(state: ExperimentState) -> dict[str, dict[str, str]]:
    """The alerts that the log has and that still hold, with the job id of each eval."""
    present: dict[str, dict[str, str]] = {}
    for ev in state.evals.values():
        alerted = ev.jobs[-1].alerted if ev.jobs and not ev.final else []
        attempt = pending(ev) if alerted else None
        if attempt is not None and told_as(attempt.queue_reason) in alerted:
            present.setdefault(f"for {base(attempt.queue_reason)}", {})[ev.name] = ev.job_id
        elif UNREPORTED in alerted and ev.state is State.RUNNING and ev.latest is not None and ev.latest.report is None:
            present.setdefault(_UNREPORTED, {})[ev.name] = ev.job_id
    return present


def _verb(names: Sequence[str], what: str) -> str:
    verb = "run" if what == _UNREPORTED else "wait"
    return verb + "s" * (len(names) == 1)


def _complete(state: ExperimentState, now: float) -> list[Notification]:
    is_complete = state.completion is not None and state.completion.status == COMPLETE
    if not is_complete or state.notified.completions == state.completions:
        return []
    state.notified.completions = state.completions
    outcomes = outcomes_of(state.evals.values(), settle(state))
    need = [outcome for outcome in outcomes if outcome.verdict in _NEEDS_ATTENTION]
    unverified = [outcome.name for outcome in outcomes if outcome.verdict == "unverified"]
    by_cause: dict[str, list[str]] = {}
    for outcome in need:
        by_cause.setdefault(outcome.cause or UNKNOWN, []).append(outcome.name)
    lines = (
        *(f"{cause} ({meaning(cause)}): {_listed(names)}" for cause, names in by_cause.items()),
        *([f"Could not be verified: {_listed(unverified)}"] if unverified else []),
        f"Summary: {_file(state.experiment, 'summary.md')}",
    )
    return [
        _notification(
            state.experiment,
            "complete",
            [state.completions],
            now=now,
            title=verdict_line(outcomes),
            text="\n".join(lines),
            level="error" if need else "warning" if unverified else "info",
            evals=[outcome.name for outcome in need] + unverified,
        )
    ]


def outcomes_of(evals: Iterable[Eval], settled: Mapping[str, EvalResults]) -> list[Outcome]:
    """How these evals ended; `settled`: the results of each."""
    outcomes = []
    for ev in evals:
        results = settled.get(ev.name, NO_RESULTS)
        outcome = verdict(ev, results)
        diagnosis = diagnosis_of(ev, results) if outcome in {"failed", "suspect"} else None
        outcomes.append(Outcome(ev.name, outcome, diagnosis.cause if diagnosis is not None else None))
    return outcomes


def _notification(
    experiment: str,
    event: NotificationEvent,
    key: Sequence[object],
    *,
    now: float,
    title: str,
    text: str,
    level: Level = "info",
    evals: Iterable[str] = (),
) -> Notification:
    """`key`: what tells it from others of this event; the same facts give the same id, also after a lost state."""
    digest = hashlib.sha256("\0".join(map(str, (experiment, event, *key))).encode(errors="surrogatepass")).hexdigest()
    return Notification(
        id=digest[:16],
        event=event,
        experiment=printable(experiment),
        at=dt.datetime.fromtimestamp(now).astimezone().isoformat(timespec="seconds"),
        title=title,
        text=text,
        level=level,
        evals=[printable(name) for name in evals],
        summary=_file(experiment, "summary.json"),
    )


def _file(experiment: str, name: str) -> str:
    return printable(os.path.join(experiment, "evalmon", name))


def _clock(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def _why(outcome: Outcome) -> str:
    return meaning(outcome.cause) if outcome.cause is not None else outcome.verdict


def _evals(number: int) -> str:
    return f"{number} eval{'s' * (number != 1)}"


def _who(names: Sequence[str]) -> str:
    return printable(names[0]) if len(names) == 1 else _evals(len(names))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(printable, names[:_LISTED])) + more
