"""Groups what failed: by cause and evidence, and by the nodes where failures cluster beyond chance. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import exp, lgamma
from typing import NamedTuple

from msgspec import Struct, field

from evalmon_agent.evidence.diagnosis.causes import CAUSE_BY_STATE, CAUSES, UNKNOWN, Diagnosis, LiesIn
from evalmon_agent.evidence.normalised import normalised
from evalmon_agent.slurm.scontrol import hostnames
from evalmon_agent.summary.cost import sum_of_known
from evalmon_agent.summary.records import AttemptSummary, CauseSummary, EvalSummary, NodeSummary
from evalmon_agent.tracking.verdict import NEEDS_YOU
from evalmon_agent.words.states import State

_BY_SAMPLES = "unfinished-samples"
_NO_RULE = "python-error"
"""An error of a sample that no rule knows is an exception."""
_PLACE = re.compile(r" \([^\s()]+:N in [^()]+\)$")
"""What the diagnosis adds to a line: ` (tasks.py:31 in score)`, with its number taken out."""

Key = tuple[str, str]
"""A cause, and what tells its errors apart: the evidence without paths, numbers and ids."""

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


class _Failure(NamedTuple):
    """That an eval failed, or `samples` of it. `share`: of the eval's costs; None: unknown, or counted elsewhere."""

    ev: EvalSummary
    diagnosis: Diagnosis
    samples: int
    share: float | None

    def part_of(self, cost: float | None) -> float | None:
        return None if self.share is None or cost is None else self.share * cost


def by_cause(evals: Sequence[EvalSummary]) -> list[CauseSummary]:
    """The causes, most costly first; where nothing is known of the costs, those of most evals."""
    groups: dict[Key, list[_Failure]] = {}
    for ev in evals:
        if ev.verdict not in {"active", "dropped"}:
            for of, failure in _failures(ev):
                groups.setdefault(of, []).append(failure)
    causes = [_summary(cause, failures) for (cause, _), failures in groups.items()]
    return sorted(causes, key=lambda summary: (-(summary.gpu_hours or 0), -len(summary.evals), -summary.samples))


def key(diagnosis: Diagnosis, state: State, nodes: Sequence[str] = ()) -> Key:
    """The same for two failures that a person calls the same error, whichever of its nodes an eval names."""
    if CAUSE_BY_STATE.get(state) == diagnosis.cause:
        return diagnosis.cause, ""  # Slurm says why, in one wording or another
    evidence = diagnosis.evidence or ""
    for node in nodes:
        evidence = re.sub(rf"(?<![\w.-]){re.escape(node)}(?![\w-])", "NODE", evidence)
    return diagnosis.cause, "\n".join(map(normalised, evidence.split("\n")))


def diagnosis_of(ev: EvalSummary) -> Diagnosis:
    """Why it failed; by Slurm's state alone if it was not measured yet."""
    if ev.diagnosis is not None:
        return ev.diagnosis
    cause = CAUSE_BY_STATE.get(ev.state, UNKNOWN)
    return Diagnosis(cause, None, CAUSES[cause].advice)


def _failures(ev: EvalSummary) -> Iterator[tuple[Key, _Failure]]:
    """The eval's failure and its failed samples. Its costs are counted once: with its failure, if it has one."""
    errors = [error for result in ev.results for error in result.sample_errors]
    total = sum(result.samples_total or 0 for result in ev.results)
    diagnosis = diagnosis_of(ev)
    is_by_samples = bool(errors) and diagnosis.cause == _BY_SAMPLES
    own = key(diagnosis, ev.state, ev.nodes) if ev.verdict in NEEDS_YOU and not is_by_samples else None
    if own is not None:
        yield own, _Failure(ev, diagnosis, 0, 1.0)
    for error in errors:
        cause = error.cause or _NO_RULE
        if own is not None and own[0] == cause and _is_one_error(own[1], error.error):
            yield own, _Failure(ev, diagnosis, error.samples, None)
            continue
        share = error.samples / total if total and own is None else None
        by_error = Diagnosis(cause, error.error, CAUSES[cause].advice.replace("{module}", "it"))
        yield (cause, error.error), _Failure(ev, by_error, error.samples, share)


def _is_one_error(own: str, error: str) -> bool:
    """Whether an eval's evidence and a sample's error are one: a traceback's line is only the first of a message."""
    texts = [_PLACE.sub("", own), error]
    short, long = sorted((text.rstrip("…") for text in texts), key=len)
    is_cut = any(text.endswith("…") for text in texts)
    return bool(short) and long.startswith(short) and (is_cut or not long[len(short) : len(short) + 1].isalnum())


def _summary(cause: str, failures: Sequence[_Failure]) -> CauseSummary:
    return CauseSummary(
        cause=cause,
        evidence=failures[0].diagnosis.evidence,
        advice=_advice(cause, [failure.diagnosis.advice for failure in failures]),
        evals=list(dict.fromkeys(failure.ev.name for failure in failures)),
        samples=sum(failure.samples for failure in failures),
        gpu_hours=sum_of_known(failure.part_of(failure.ev.cost.gpu_hours) for failure in failures),
        money=sum_of_known(failure.part_of(failure.ev.cost.money) for failure in failures),
    )


def _advice(cause: str, advice: Sequence[str | None]) -> str | None:
    """The advice that all share; the cause's own where each has its own figures."""
    general = CAUSES[cause].advice if cause in CAUSES else None
    return general if len(set(advice)) > 1 and general and "{" not in general else advice[0]


class _Tally(Struct):
    """What ran on a node. `counted`, `failures`: without those that failed by a cause in the eval itself."""

    ran: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    counted: Counter[Label] = field(default_factory=Counter)
    failures: Counter[Label] = field(default_factory=Counter)


def by_node(evals: Sequence[EvalSummary]) -> list[NodeSummary]:
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
    run, slash, _ = name.partition("/")
    return [_ALL, ("task", _task(name)), ("run", run if slash else "")]


def _task(name: str) -> str:
    """The task of `{run}/{task}/epoch{N}`; any other name is its own."""
    parts = [part for part in _ARRAY_TASK.sub("", name).split("/") if not _EPOCH.fullmatch(part)]
    return "/".join(parts[1:]) or parts[0] if parts else name
