"""Says in one line whether the evals succeeded, what needs attention, and what should change next time. Pure."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from evalmon_agent.evidence.diagnosis.causes import CAUSES, LiesIn, one_line, phrase, plural
from evalmon_agent.summary.failures import diagnosis_of
from evalmon_agent.summary.records import AlertSummary, CauseSummary, EvalSummary, NodeSummary, Summary
from evalmon_agent.tracking.verdict import NEEDS_ATTENTION, NEEDS_YOU, NOT_LOOKED_FOR, UNSUCCESSFUL
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted, number
from evalmon_agent.words.states import State

_ORDER = ("failed", "refused", "suspect", "unverified", "active", "ok", "dropped")
_INSPECT = "inspect-ai"
_WORTH_SAYING_H = 0.005
_OUTCOMES_AT_MOST = 3
_QUEUED = frozenset({State.PENDING, State.REQUEUED})


def verdict_line(summary: Summary) -> str:
    """For example `7 of 8 evals succeeded; 1 needs you: r16/cap/epoch0 ran out of GPU memory`.

    Dropped evals are left out of all numbers but their own.
    """
    counts = summary.verdicts
    total = len(summary.evals) - counts["dropped"]
    unchecked = sum(is_unchecked(ev) for ev in summary.evals) if counts["unverified"] else 0
    clauses = [_succeeded(counts["ok"], total, is_over=not (counts["active"] or unchecked))]
    if not total and counts["dropped"]:
        clauses = ["No evals left"]
    if troubled := [ev for ev in summary.evals if ev.verdict in NEEDS_YOU]:
        verb = "needs" if len(troubled) == 1 else "need"
        clauses.append(f"{len(troubled)} {verb} you: {_what_happened(troubled)}")
    if unverified := counts["unverified"] - unchecked:
        clauses.append(f"{unverified} could not be verified")
    if unchecked:
        clauses.append(f"{unchecked} not checked yet")
    if counts["active"]:
        clauses.append(_active(summary.evals))
    if dropped := counts["dropped"]:
        clauses.append(f"{dropped} dropped")
    return "; ".join(clauses)


def _succeeded(ok: int, total: int, *, is_over: bool) -> str:
    if not total:
        return "No evals yet"
    if ok == total:
        return f"All {total} evals succeeded" if total > 1 else "The eval succeeded"
    return f"{ok} of {counted(total, 'eval')} succeeded" + ("" if is_over else " so far")


def _what_happened(troubled: Sequence[EvalSummary]) -> str:
    """What happened to them, the most frequent first; the name too if it is only one."""
    if len(troubled) == 1:
        return f"{printable(troubled[0].name)} {_happened(troubled[0])}"
    outcomes = Counter(map(_happened, troubled)).most_common()
    if len(outcomes) == 1:
        return f"all {plural(outcomes[0][0])}"
    most_frequent = outcomes if len(outcomes) <= _OUTCOMES_AT_MOST else outcomes[: _OUTCOMES_AT_MOST - 1]
    parts = [f"{count} {plural(outcome) if count > 1 else outcome}" for outcome, count in most_frequent]
    if rest := len(troubled) - sum(count for _, count in most_frequent):
        parts.append(f"{rest} failed for other reasons")
    return ", ".join(parts)


def _happened(ev: EvalSummary) -> str:
    return phrase(diagnosis_of(ev).cause)


def _active(evals: Sequence[EvalSummary]) -> str:
    states = [ev.state for ev in evals if ev.verdict == "active"]
    queued = sum(state in _QUEUED for state in states)
    unsubmitted = sum(state is State.UNSUBMITTED for state in states)
    counts = {
        "running": len(states) - queued - unsubmitted,
        "waiting in the queue": queued,
        "not submitted yet": unsubmitted,
    }
    return ", ".join(f"{count} {words}" for words, count in counts.items() if count)


class Group(Struct, frozen=True, kw_only=True):
    """What a person has to look at once, however many evals it is about; `verdict` is the worst of theirs.

    `title` is to be read after the number of evals; `evidence`: the line that shows it, of one of them; `commands`:
    what to type next; `samples`: how many samples failed by it; `gpu_hours`: what it cost, if that is known; `count`:
    how many evals it is about, if not all of them are in `evals`.
    """

    verdict: str
    title: str
    evals: Sequence[EvalSummary]
    evidence: str | None = None
    advice: Sequence[str] = ()
    commands: Sequence[str] = ()
    samples: int = 0
    gpu_hours: float | None = None
    count: int | None = None

    @property
    def headline(self) -> str:
        """The number of evals and the title; the eval's name if it is one. Not made printable."""
        if self.count is None and len(self.evals) == 1:
            return f"{self.evals[0].name} {self.title}"
        count = len(self.evals) if self.count is None else self.count
        return f"{counted(count, 'eval')} {plural(self.title)}"

    @property
    def loss(self) -> str:
        """What it cost, in words; empty if nothing is known."""
        is_worth_saying = self.gpu_hours is not None and self.gpu_hours >= _WORTH_SAYING_H
        parts = [number(self.gpu_hours, " GPU-hours", digits=2)] if is_worth_saying else []
        parts += [counted(self.samples, "failed sample")] if self.samples else []
        return ", ".join(parts)


def groups(summary: Summary) -> list[Group]:
    """The causes, most costly first, then suspicious nodes, alerts, and what cannot be verified."""
    evals = {ev.name: ev for ev in summary.evals}
    return [
        *(_of_cause(summary, cause, in_order([evals[name] for name in cause.evals])) for cause in summary.causes),
        *(_of_node(summary, node) for node in summary.nodes if node.suspicious),
        *_alerts(summary, evals),
        *_unverified(summary),
    ]


def is_unchecked(ev: EvalSummary) -> bool:
    """Whether it just ended, so that nobody has looked at its output and logs yet."""
    return ev.verdict == "unverified" and ev.result_unknown == NOT_LOOKED_FOR


def need_attention(summary: Summary) -> set[str]:
    """The names of the evals that did not succeed, could not be verified, or have an alert."""
    alerted = {alert.name for alert in summary.alerts if alert.cleared_at is None and alert.name is not None}
    return alerted | {ev.name for ev in summary.evals if ev.verdict in NEEDS_ATTENTION and not is_unchecked(ev)}


def next_round(evals: Sequence[EvalSummary]) -> list[tuple[str, list[str]]]:
    """What successful evals should ask for next time, and which of them, the most frequent first.

    The advice for others stands with what went wrong.
    """
    names: dict[str, list[str]] = {}
    for ev in evals:
        if ev.verdict == "ok" and ev.advice:
            names.setdefault("; ".join(ev.advice), []).append(ev.name)
    return sorted(names.items(), key=lambda item: -len(item[1]))


def in_order(evals: Sequence[EvalSummary]) -> list[EvalSummary]:
    """Those that need attention first, each kind in the order of the summary."""
    return sorted(evals, key=lambda ev: _ORDER.index(ev.verdict))


def _of_cause(summary: Summary, cause: CauseSummary, evals: Sequence[EvalSummary]) -> Group:
    return Group(
        verdict=evals[0].verdict,
        title=_title(cause.cause, evals),
        evals=evals,
        evidence=None if cause.evidence is None else one_line(cause.evidence),
        advice=[*([cause.advice] if cause.advice else []), *_refused_again(evals)],
        commands=list(_commands(summary, cause.cause, evals)),
        samples=cause.samples,
        gpu_hours=cause.gpu_hours,
    )


def _title(cause: str, evals: Sequence[EvalSummary]) -> str:
    """What happened; if it happened to samples, first what that did to the evals, in the verdict line's words."""
    own = {ev.diagnosis.cause for ev in evals if ev.diagnosis is not None and ev.verdict in NEEDS_YOU}
    return f"{phrase(*own)} and {phrase(cause)}" if len(own) == 1 and cause not in own else phrase(cause)


def _refused_again(evals: Sequence[EvalSummary]) -> list[str]:
    refusals = [one_line(ev.refusal) for ev in evals if ev.refusal is not None and ev.verdict != "refused"]
    return [f"Slurm refused to run it again: {words}" for words in dict.fromkeys(refusals)]


def _commands(summary: Summary, cause: str, evals: Sequence[EvalSummary]) -> Iterator[str]:
    """For a shell; the first eval stands for all where a command takes one."""
    experiment = shlex.quote(summary.experiment)
    verdicts = {ev.verdict for ev in evals}
    if "refused" in verdicts:
        yield f"evalmon submit {experiment}"
    if verdicts & UNSUCCESSFUL:
        # An eval that is suspect for its failed samples is there by their cause, and retried by its own.
        own = sorted({ev.diagnosis.cause for ev in evals if ev.diagnosis is not None} or {cause})
        several = " ".join(f"--cause {slug}" for slug in own)
        which = several if len(evals) > 1 else f"--name {shlex.quote(evals[0].name)}"
        returns = cause in CAUSES and CAUSES[cause].lies_in is LiesIn.EVAL_FOR_GOOD
        yield f"evalmon retry {experiment} {which}{' --force' * returns}"
    yield from _look(summary, evals)


def _look(summary: Summary, evals: Sequence[EvalSummary]) -> Iterator[str]:
    """How to look into the first of the evals: its inspect log if that shows more than success, else its output."""
    for ev in evals[:1]:
        result = ev.result
        if result is not None and result.log and result.kind == _INSPECT and not result.succeeded:
            yield f"inspect view --log-dir {shlex.quote(os.path.dirname(result.log))}"
        elif ev.log is not None:
            yield f"evalmon logs {shlex.quote(summary.experiment)} {shlex.quote(ev.name)}"


def _of_node(summary: Summary, node: NodeSummary) -> Group:
    return Group(
        verdict="suspect",
        title=f"failed on the node {node.node}, of {node.ran} that ran there: more than chance explains",
        evals=[ev for ev in summary.evals if ev.verdict in NEEDS_YOU and node.node in ev.nodes],
        count=node.failed,
        advice=["Exclude the node, and tell the cluster's support"],
        commands=[f"evalmon retry {shlex.quote(summary.experiment)} --exclude-nodes {shlex.quote(node.node)}"],
    )


def _alerts(summary: Summary, evals: Mapping[str, EvalSummary]) -> Iterator[Group]:
    """What lasts, together where the same is said of several evals."""
    by_text: dict[str, list[AlertSummary]] = {}
    for alert in summary.alerts:
        if alert.cleared_at is None and alert.name in evals:
            by_text.setdefault(alert.text, []).append(alert)
    for text, alerts in by_text.items():
        yield Group(
            verdict="active",
            title=text,
            evals=[evals[alert.name] for alert in alerts if alert.name is not None],
            advice=[alerts[0].advice] if alerts[0].advice else [],
        )


def _unverified(summary: Summary) -> Iterator[Group]:
    by_words: dict[str, list[EvalSummary]] = {}
    for ev in summary.evals:
        if ev.verdict == "unverified" and not is_unchecked(ev):
            by_words.setdefault(ev.result_unknown or "", []).append(ev)
    for words, evals in by_words.items():
        yield Group(
            verdict="unverified",
            title="could not be verified",
            evals=evals,
            evidence=words or None,
            commands=list(_look(summary, evals)),
        )
