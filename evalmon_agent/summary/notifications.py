"""Builds the notifications of what happened, in words for people. Pure.

Title and text hold names, verdicts, causes and Slurm's pending reasons, never a line that an eval printed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from evalmon_agent.evidence.diagnosis.causes import REFUSED, UNKNOWN, Diagnosis, phrase, plural
from evalmon_agent.logbook.blocks import stamp
from evalmon_agent.settings import NotificationEvent
from evalmon_agent.slurm.scontrol import hostnames
from evalmon_agent.summary.attention import verdict_line
from evalmon_agent.summary.failures import key
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.alerts import base
from evalmon_agent.tracking.monitor_job_states import COMPLETE
from evalmon_agent.tracking.records import Attempt, Eval, ExperimentState
from evalmon_agent.tracking.verdict import NEEDS_YOU, NO_RESULTS, UNSUCCESSFUL, EvalResults, diagnosis_of, verdict
from evalmon_agent.words.durations import iso
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted, listed
from evalmon_agent.words.states import State

SCHEMA = 1
Level = Literal["info", "warning", "error"]
_LISTED = 10
"""How many evals a text names."""
_UNREPORTED = "without reporting to evalmon"
_NOTIFIED_PER_CAUSE = 5
"""How many errors with one cause get a notification each, if they differ in what they printed."""


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


class EvalFailure(Struct, frozen=True):
    """An eval that did not succeed. `diagnosis`: None if it is not known why."""

    name: str
    state: State
    diagnosis: Diagnosis | None = None
    nodes: Sequence[str] = ()

    @property
    def cause(self) -> str:
        """One of `causes.CAUSES`."""
        return UNKNOWN if self.diagnosis is None else self.diagnosis.cause

    @property
    def key(self) -> str:
        """The same for failures that are told once: the cause and, without showing it, what the error says."""
        if self.diagnosis is None or self.cause == UNKNOWN:
            return UNKNOWN
        _, error = key(self.diagnosis, self.state, self.nodes)
        return f"{self.cause} {_digest(error)}" if error else self.cause


class _Event(Struct, frozen=True):
    """One event. `about`: what tells it from others of its kind, the same for the same facts."""

    event: NotificationEvent
    about: Sequence[object]
    title: str
    lines: Sequence[str]
    level: Level = "info"
    evals: Iterable[str] = ()


def notifications(
    state: ExperimentState, failures: Iterable[EvalFailure], *, now: float, summary: Callable[[], Summary]
) -> list[Notification]:
    """What is to be told now, each once: `state.notified` has what was told.

    `failures`: the evals that ended just now; `summary`: called if all is complete.
    """
    events = (*_outage(state), *_failures(state, failures), *_alerts(state), *_complete(state, summary))
    return [_notification(state.experiment, event, now=now) for event in events]


def a_test(experiment: str, *, now: float) -> Notification:
    """What `evalmon notify --test` sends."""
    lines = ["Notifications of this experiment reach you."]
    return _notification(experiment, _Event("recovered", ["test", now], "A test by evalmon notify", lines), now=now)


def _outage(state: ExperimentState) -> Iterator[_Event]:
    notified, outage = state.notified.outage_since, state.outage
    since = outage.since if outage is not None and outage.alerted else None
    state.notified.outage_since = since
    if notified is not None and since != notified:
        yield _Event(
            "recovered", [notified], "Slurm answers again", ["evalmon is catching up with what happened meanwhile."]
        )
    if outage is not None and since is not None and since != notified:
        line = f"{outage.failures} polls in a row failed. Monitoring goes on and catches up when Slurm answers."
        yield _Event("outage", [since], f"Slurm has not answered since {stamp(since)}", [line], "warning")


def _failures(state: ExperimentState, failures: Iterable[EvalFailure]) -> Iterator[_Event]:
    """One for the first evals that failed with the same error."""
    by_key: dict[str, list[EvalFailure]] = {}
    refused = (name for name in state.refused if name not in state.dropped)
    refusals = (EvalFailure(name, State.UNSUBMITTED, Diagnosis(REFUSED, None, None)) for name in refused)
    for failure in (*failures, *refusals):
        by_key.setdefault(failure.key, []).append(failure)
    for error, alike in by_key.items():
        cause, names = alike[0].cause, [failure.name for failure in alike]
        notified = [other for other in state.notified.causes if other.partition(" ")[0] == cause]
        if error in notified or len(notified) >= _NOTIFIED_PER_CAUSE:
            continue
        state.notified.causes.append(error)
        lines = [
            f"Cause: {cause}",
            f"Evals: {_listed(names)}",
            "Further evals with the same error are in the summary only.",
            f"Details: {_file(state.experiment, 'monitor.log')}",
        ]
        yield _Event("failed", [error], f"{_who(names)} {_happened(cause, names)}", lines, "error", names)


def _alerts(state: ExperimentState) -> Iterator[_Event]:
    """One when an alert is raised for the first eval, and one when it is cleared for the last."""
    notified, present = state.notified.alerts, _present_alerts(state)
    state.notified.alerts = present
    for what, jobs in present.items():
        if what not in notified:
            lines = [
                f"Evals: {_listed(jobs)}",
                f"What to do: see ALERT in {_file(state.experiment, 'monitor.log')}",
            ]
            title = f"{_who(jobs)} {_verb(jobs, what)} {what}"
            yield _Event("alert", [what, *sorted(jobs.values())], title, lines, "warning", jobs)
    for what, jobs in notified.items():
        if what not in present:
            title = f"No longer: {_who(jobs)} {_verb(jobs, what)} {what}"
            about = [what, *sorted(jobs.values())]
            yield _Event("alert-cleared", about, title, [f"Evals: {_listed(jobs)}"], evals=jobs)


def _present_alerts(state: ExperimentState) -> dict[str, dict[str, str]]:
    """The alerts that the log has and that still hold, with the job id of each eval."""
    present: dict[str, dict[str, str]] = {}
    for ev in state.counted:
        for alert in ev.jobs[-1].alerts if ev.jobs and not ev.final else ():
            if alert.cleared_at is None:
                what = f"for {base(alert.reason)}" if alert.kind == "waits" else _UNREPORTED
                present.setdefault(what, {})[ev.name] = ev.job_id
    return present


def _verb(names: Collection[str], what: str) -> str:
    verb = "run" if what == _UNREPORTED else "wait"
    return verb + "s" * (len(names) == 1)


def _complete(state: ExperimentState, summarise: Callable[[], Summary]) -> Iterator[_Event]:
    is_complete = state.completion is not None and state.completion.status == COMPLETE
    if not is_complete or state.notified.completions == state.completions:
        return
    state.notified.completions = state.completions
    summary = summarise()
    need = [ev.name for ev in summary.evals if ev.verdict in NEEDS_YOU]
    unverified = [ev.name for ev in summary.evals if ev.verdict == "unverified"]
    lines = [
        *(f"{_listed(cause.evals)} {_happened(cause.cause, cause.evals)}" for cause in summary.causes[:_LISTED]),
        *([f"Could not be verified: {_listed(unverified)}"] if unverified else []),
        f"Summary: {_file(state.experiment, 'summary.md')}",
    ]
    level: Level = "error" if need else "warning" if unverified else "info"
    yield _Event("complete", [state.completions], verdict_line(summary), lines, level, [*need, *unverified])


def failures_among(evals: Iterable[Eval], settled: Mapping[str, EvalResults]) -> list[EvalFailure]:
    """Those of the evals that failed or are suspect; `settled`: the results of each."""
    failures = []
    for ev in evals:
        results = settled.get(ev.name, NO_RESULTS)
        if verdict(ev, results) in UNSUCCESSFUL:
            nodes = list(hostnames((ev.latest or Attempt()).node_list or ""))
            failures.append(EvalFailure(ev.name, ev.state, diagnosis_of(ev, results), nodes))
    return failures


def _notification(experiment: str, event: _Event, *, now: float) -> Notification:
    """The same facts give the same id, also after a lost state."""
    return Notification(
        id=_digest("\0".join(map(str, (experiment, event.event, *event.about)))),
        event=event.event,
        experiment=printable(experiment),
        at=str(iso(now)),
        title=event.title,
        text="\n".join(event.lines),
        level=event.level,
        evals=[printable(name) for name in event.evals],
        summary=_file(experiment, "summary.json"),
    )


def _file(experiment: str, name: str) -> str:
    return printable(os.path.join(experiment, "evalmon", name))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _happened(cause: str, names: Sequence[str]) -> str:
    return phrase(cause) if len(names) == 1 else plural(phrase(cause))


def _who(names: Collection[str]) -> str:
    return printable(*names) if len(names) == 1 else counted(len(names), "eval")


def _listed(names: Iterable[str]) -> str:
    return listed(list(map(printable, names)), most=_LISTED)
