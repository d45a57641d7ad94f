"""Says what needs attention: the causes of failures, and what else needs a person, each with what helps. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis.causes import CAUSES, LiesIn, phrase, plural
from evalmon_agent.evidence.diagnosis.records import one_line
from evalmon_agent.summary.records import CauseSummary, EvalSummary, Summary
from evalmon_agent.summary.verdict_line import NEEDS_YOU

_ORDER = ("failed", "refused", "suspect", "unverified", "active", "ok", "dropped")
_INSPECT = "inspect-ai"
_WAITS = "Slurm says "
_WORTH_SAYING_H = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a person has to look at once, however many evals it is about; `verdict` is the worst of theirs.

    `title` is to be read after the number of evals; `evidence`: the line that shows it, of one of them; `commands`:
    what to type next; `samples`: how many samples failed by it; `gpu_hours`: what it cost, if that is known.
    """

    verdict: str
    title: str
    evals: Sequence[EvalSummary]
    evidence: str | None
    advice: Sequence[str]
    commands: Sequence[str]
    samples: int = 0
    gpu_hours: float | None = None

    @property
    def headline(self) -> str:
        """The number of evals and the title; the eval's name if it is one. Not made printable."""
        if len(self.evals) == 1:
            return f"{self.evals[0].name} {self.title}"
        return f"{len(self.evals)} evals {plural(self.title)}"

    @property
    def loss(self) -> str:
        """What it cost, in words; empty if nothing is known."""
        hours = [f"{self.gpu_hours:.2f} GPU-hours"] if self.gpu_hours and self.gpu_hours >= _WORTH_SAYING_H else []
        return ", ".join([*hours, *([f"{self.samples} failed samples"] if self.samples else [])])


def groups(summary: Summary) -> list[Group]:
    """The causes, most costly first, then suspicious nodes, then what cannot be verified or will not start."""
    evals = {ev.name: ev for ev in summary.evals}
    found = [
        _of_cause(summary, cause, [evals[name] for name in cause.evals if name in evals]) for cause in summary.causes
    ]
    return [*(group for group in found if group.evals), *_nodes(summary), *_others(summary)]


def needs_attention(ev: EvalSummary) -> bool:
    """Whether the eval did not succeed, or nobody can tell, or it waits for what will not happen by itself."""
    waits = ev.verdict == "active" and any(line.startswith(_WAITS) for line in ev.advice)
    return waits or ev.verdict in NEEDS_YOU or ev.verdict == "unverified"


def in_order(evals: Sequence[EvalSummary]) -> list[EvalSummary]:
    """Those that need attention first, each kind in the order of the summary."""
    return sorted(evals, key=_rank)


def _rank(ev: EvalSummary) -> int:
    return _ORDER.index(ev.verdict)


def _of_cause(summary: Summary, cause: CauseSummary, evals: Sequence[EvalSummary]) -> Group:
    evals = in_order(evals)
    return Group(
        verdict=evals[0].verdict if evals else "",
        title=phrase(cause.cause),
        evals=evals,
        evidence=None if cause.evidence is None else one_line(cause.evidence),
        advice=[cause.advice] if cause.advice else [],
        commands=list(_commands(summary, cause.cause, evals)),
        samples=cause.samples,
        gpu_hours=cause.gpu_hours,
    )


def _commands(summary: Summary, cause: str, evals: Sequence[EvalSummary]) -> Iterator[str]:
    """For a shell; the first eval stands for all where a command takes one."""
    experiment = shlex.quote(summary.experiment)
    verdicts = {ev.verdict for ev in evals}
    if "refused" in verdicts:
        yield f"evalmon submit {experiment}"
    if verdicts & {"failed", "suspect"}:
        which = f"--cause {cause}" if len(evals) > 1 else f"--name {shlex.quote(evals[0].name)}"
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


def _nodes(summary: Summary) -> Iterator[Group]:
    for node in summary.nodes:
        if node.suspicious:
            command = f"evalmon retry {shlex.quote(summary.experiment)} --exclude-nodes {shlex.quote(node.node)}"
            yield Group(
                verdict="suspect",
                title=f"failed on the node {node.node}, of {node.ran} that ran there: more than chance explains",
                evals=[ev for ev in summary.evals if ev.verdict in NEEDS_YOU and node.node in ev.nodes],
                evidence=None,
                advice=["Exclude the node, and tell the cluster's support"],
                commands=[command],
            )


def _others(summary: Summary) -> Iterator[Group]:
    """Evals that are no failures, together where the same words are said of them."""
    by_words: dict[tuple[str, str], list[EvalSummary]] = {}
    for ev in summary.evals:
        if needs_attention(ev) and ev.verdict not in NEEDS_YOU:
            words = ev.result_unknown or "" if ev.verdict == "unverified" else "\n".join(ev.advice)
            by_words.setdefault((ev.verdict, words), []).append(ev)
    for (verdict, words), evals in by_words.items():
        unverified = verdict == "unverified"
        yield Group(
            verdict=verdict,
            title="could not be verified" if unverified else "will not start by waiting",
            evals=evals,
            evidence=words if unverified and words else None,
            advice=[] if unverified else evals[0].advice,
            commands=list(_look(summary, evals)) if unverified else [],
        )
