"""Finds the nodes where failures cluster beyond chance. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, lgamma

from evalmon_agent.evidence.diagnosis.causes import CAUSES, LiesIn
from evalmon_agent.slurm.scontrol import hostnames
from evalmon_agent.summary.records import AttemptSummary, EvalSummary, NodeSummary
from evalmon_agent.words.states import State

SIGNIFICANCE = 0.01
"""How likely it may be that any node of an experiment is suspected by chance."""
SIGNIFICANCE_OF_THE_REST = 0.05
"""How likely the failures may be by chance that remain without any one task or run."""
MIN_FAILURES = 3

_ALL = ("", "")
_EPOCH = re.compile(r"epoch\d+")
_ARRAY_TASK = re.compile(r"\[\d+\]$")


Label = tuple[str, str]
"""One part of the experiment: ("task", its name), ("run", its name), or ("", "") for all of it."""


@dataclass(slots=True)
class _Tally:
    """What ran on a node. `counted`, `failures`: without those that failed by a cause in the eval itself."""

    ran: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    counted: Counter[Label] = field(default_factory=Counter)
    failures: Counter[Label] = field(default_factory=Counter)


def summarise(evals: Sequence[EvalSummary]) -> list[NodeSummary]:
    """The nodes on which an attempt ended: suspicious ones first, then by failures.

    An eval counts once on each set of nodes: by its last attempt there, since its own repetitions fail alike. Dropped
    evals do not count.
    """
    ended = {
        (ev.name, attempt.node_list): (ev, attempt)
        for ev in evals
        if ev.verdict != "dropped"
        for attempt in ev.attempts
        if attempt.node_list is not None and (attempt.cause is not None or attempt.state is State.COMPLETED)
    }
    on: dict[str, _Tally] = {}
    whole = _Tally()
    for ev, attempt in ended.values():
        for tally in [whole, *(on.setdefault(node, _Tally()) for node in hostnames(attempt.node_list or ""))]:
            _count(tally, ev, attempt)
    suspicious = _suspicious(on, whole)
    summaries = [
        NodeSummary(
            node=node,
            ran=tally.ran,
            failed=tally.causes.total(),
            causes=[cause for cause, _ in tally.causes.most_common()],
            suspicious=node in suspicious,
        )
        for node, tally in on.items()
    ]
    return sorted(summaries, key=lambda node: (not node.suspicious, -node.failed, node.node))


def p_value(*, failures: int, ran: int, failures_in_all: int, ran_in_all: int) -> float:
    """How likely so many of all failures, or more, fall on a node by chance: Fisher's exact test, one-sided."""
    others, ways_in_all = ran_in_all - failures_in_all, _log_ways(ran_in_all, ran)
    least, most = max(failures, ran - others), min(failures_in_all, ran)
    return min(
        1.0,
        sum(
            exp(_log_ways(failures_in_all, number) + _log_ways(others, ran - number) - ways_in_all)
            for number in range(least, most + 1)
        ),
    )


def _log_ways(things: int, chosen: int) -> float:
    """The logarithm of the binomial coefficient, which itself has thousands of digits."""
    return lgamma(things + 1) - lgamma(chosen + 1) - lgamma(things - chosen + 1)


def holm(p_values: Mapping[str, float], *, tests: int) -> set[str]:
    """The names whose hypothesis Holm's method rejects at SIGNIFICANCE, of so many tests in all."""
    rejected: set[str] = set()
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        if p * (tests - rank) > SIGNIFICANCE:
            break
        rejected.add(name)
    return rejected


def _count(tally: _Tally, ev: EvalSummary, attempt: AttemptSummary) -> None:
    tally.ran += 1
    labels = _labels(ev.name)
    if attempt.cause is None:
        tally.counted.update(labels)
        return
    tally.causes[attempt.cause] += 1
    if attempt.cause not in CAUSES or CAUSES[attempt.cause].lies_in is LiesIn.ANYWHERE:
        tally.counted.update(labels)
        tally.failures.update(labels)


def _suspicious(on: Mapping[str, _Tally], whole: _Tally) -> set[str]:
    p_values = {node: _p_value_of(tally, whole) for node, tally in on.items() if tally.failures[_ALL] >= MIN_FAILURES}
    significant = holm(p_values, tests=sum(tally.counted[_ALL] > 0 for tally in on.values()))
    return {node for node in significant if not _is_by_one_part(on[node], whole)}


def _is_by_one_part(node: _Tally, whole: _Tally) -> bool:
    """Whether one task alone, or one run of several, may explain the failures: it may be broken wherever it runs."""
    has_runs = sum(by == "run" for by, _ in whole.counted) > 1
    parts = [label for label in node.failures if label[0] == "task" or (label[0] == "run" and has_runs)]
    return any(_p_value_of(node, whole, without=label) > SIGNIFICANCE_OF_THE_REST for label in parts)


def _p_value_of(node: _Tally, whole: _Tally, *, without: Label | None = None) -> float:
    def rest(counts: Counter[Label]) -> int:
        return counts[_ALL] - (counts[without] if without is not None else 0)

    return p_value(
        failures=rest(node.failures),
        ran=rest(node.counted),
        failures_in_all=rest(whole.failures),
        ran_in_all=rest(whole.counted),
    )


def _labels(name: str) -> list[Label]:
    return [_ALL, ("task", _task(name)), ("run", _run(name))]


def _run(name: str) -> str:
    """The run of `{run}/{task}/epoch{N}`."""
    return name.partition("/")[0] if "/" in name else ""


def _task(name: str) -> str:
    """The task of such a name; any other name is its own."""
    parts = [part for part in _ARRAY_TASK.sub("", name).split("/") if not _EPOCH.fullmatch(part)]
    return "/".join(parts[1:]) or parts[0] if parts else name
