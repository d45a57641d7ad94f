"""Says the outcome in one line, and groups the evals that need attention, each group with what helps. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis.causes import meaning
from evalmon_agent.evidence.diagnosis.records import UNKNOWN, one_line
from evalmon_agent.summary.records import EvalSummary, Summary

NEEDS_ATTENTION = ("failed", "refused", "suspect", "unverified")
"""The verdicts that need somebody, the worst first."""
_TITLES_AT_MOST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Evals with the same verdict for the same cause.

    `title`: what happened; `evidence`: the line that shows it, of one of them; `commands`: what to type next;
    `gpu_hours`: what they cost, if it is known.
    """

    verdict: str
    title: str
    evals: Sequence[EvalSummary]
    evidence: str | None
    advice: Sequence[str]
    commands: Sequence[str]
    gpu_hours: float | None = None


def headline(summary: Summary) -> str:
    """`7 of 8 evals succeeded; 1 needs you: r16/cap/epoch0 (the time limit was reached)`."""
    counted = [ev for ev in summary.evals if ev.verdict != "dropped"]
    if not counted:
        return "No evals yet"
    succeeded = sum(ev.verdict == "ok" for ev in counted)
    active = sum(ev.verdict == "active" for ev in counted)
    line = f"{succeeded} of {len(counted)} eval{'s' * (len(counted) != 1)} succeeded"
    if active:
        line += f" so far, {active} {'is' if active == 1 else 'are'} not over"
    found = groups(summary)
    needing = sum(len(group.evals) for group in found)
    if not needing:
        return line
    if needing == 1:
        return f"{line}; 1 needs you: {found[0].evals[0].name} ({found[0].title})"
    most = sorted(found, key=lambda group: -len(group.evals))[:_TITLES_AT_MOST]
    why = ", ".join(f"{group.title} ({len(group.evals)})" for group in most)
    more = len(found) - len(most)
    return f"{line}; {needing} need you: {why}{f', and {more} more' if more else ''}"


def groups(summary: Summary) -> list[Group]:
    """What needs attention, most costly first; of the same cost the worst verdict first, then the most evals."""
    by_key: dict[tuple[str, str], list[EvalSummary]] = {}
    for ev in summary.evals:
        if ev.verdict in NEEDS_ATTENTION or _waits_in_vain(ev):
            by_key.setdefault((ev.verdict, _title(ev)), []).append(ev)
    found = [_group(summary, title, evals) for (_, title), evals in by_key.items()]
    return sorted(found, key=lambda group: (-(group.gpu_hours or 0), _rank(group.verdict), -len(group.evals)))


def in_order(evals: Sequence[EvalSummary]) -> list[EvalSummary]:
    """Those that need attention first, each kind in the order of the summary."""
    return sorted(evals, key=lambda ev: _rank(ev.verdict))


def _rank(verdict: str) -> int:
    order = (*NEEDS_ATTENTION, "active", "ok", "dropped")
    return order.index(verdict) if verdict in order else len(order)


def _waits_in_vain(ev: EvalSummary) -> bool:
    """Whether Slurm named a reason that does not pass by itself; it is then the eval's last advice."""
    return ev.verdict == "active" and any(line.startswith("Slurm says ") for line in ev.advice)


def _title(ev: EvalSummary) -> str:
    if ev.diagnosis is not None and ev.diagnosis.cause != UNKNOWN:
        return meaning(ev.diagnosis.cause)
    if ev.verdict == "refused":
        return "Slurm refused it"
    if ev.verdict == "unverified":
        return "the result could not be verified"
    if ev.verdict == "active":
        return "it waits for something that will not happen by itself"
    if ev.witnesses.agree is False:
        return f"Slurm says {ev.witnesses.slurm}, the job itself {ev.witnesses.self}"
    return f"{ev.state}, cause unknown"


def _group(summary: Summary, title: str, evals: Sequence[EvalSummary]) -> Group:
    one = evals[0]
    advice = [one.diagnosis.advice] if one.diagnosis is not None and one.diagnosis.advice else one.advice[:2]
    return Group(
        verdict=one.verdict,
        title=title,
        evals=evals,
        evidence=next(filter(None, map(_evidence, evals)), None),
        advice=advice,
        commands=list(_commands(summary, one, count=len(evals))),
    )


def _evidence(ev: EvalSummary) -> str | None:
    if ev.diagnosis is not None and ev.diagnosis.evidence:
        return one_line(ev.diagnosis.evidence)
    if ev.result is not None and ev.result.error:
        return ev.result.error
    return ev.result_unknown


def _commands(summary: Summary, ev: EvalSummary, *, count: int) -> Iterator[str]:
    """The commands that help, for a shell; the first eval stands for all of its group."""
    experiment, name = shlex.quote(summary.experiment), shlex.quote(ev.name)
    if ev.verdict in {"failed", "suspect"}:
        cause = UNKNOWN if ev.diagnosis is None else ev.diagnosis.cause
        yield (
            f"evalmon retry {experiment} --name {name}" if count == 1 else f"evalmon retry {experiment} --cause {cause}"
        )
    if ev.verdict == "refused":
        yield f"evalmon submit {experiment}"
    if ev.result is not None and ev.result.log and not ev.result.succeeded and ev.result.kind == "inspect-ai":
        yield f"inspect view --log-dir {shlex.quote(os.path.dirname(ev.result.log))}"
    elif ev.log is not None:
        yield f"evalmon logs {experiment} {name}"
