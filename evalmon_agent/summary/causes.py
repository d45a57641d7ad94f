"""Groups failures, suspects and failed samples by cause and evidence. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from evalmon_agent.evidence.diagnosis.causes import CAUSE_BY_STATE, CAUSES, UNKNOWN, Diagnosis
from evalmon_agent.evidence.normalised import normalised
from evalmon_agent.summary.cost import sum_of_known
from evalmon_agent.summary.records import CauseSummary, EvalSummary
from evalmon_agent.tracking.verdict import NEEDS_YOU
from evalmon_agent.words.states import State

_BY_SAMPLES = "unfinished-samples"
_NO_RULE = "python-error"
"""An error of a sample that no rule knows is an exception."""
_ALL_OF_IT = 1.0
_PLACE = re.compile(r" \([^\s()]+:N in [^()]+\)$")
"""What the diagnosis adds to a line: ` (tasks.py:31 in score)`, with its number taken out."""

Key = tuple[str, str]
"""A cause, and what tells its errors apart: the evidence without paths, numbers and ids."""


@dataclass(slots=True)
class _Group:
    diagnosis: Diagnosis
    """The first one."""
    advice: set[str | None] = field(default_factory=set)
    evals: dict[str, None] = field(default_factory=dict)
    samples: int = 0
    gpu_hours: list[float | None] = field(default_factory=list)
    money: list[float | None] = field(default_factory=list)


def group(evals: Sequence[EvalSummary]) -> list[CauseSummary]:
    """The causes, most costly first; where nothing is known of the costs, those of most evals."""
    groups: dict[Key, _Group] = {}
    for ev in evals:
        if ev.verdict not in {"active", "dropped"}:
            _add_eval(groups, ev)
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


def _add_eval(groups: dict[Key, _Group], ev: EvalSummary) -> None:
    """Add the eval's failure and its failed samples. Its costs are counted once: with its failure, if it has one."""
    errors = [error for result in ev.results for error in result.sample_errors]
    total = sum(result.samples_total or 0 for result in ev.results)
    diagnosis = diagnosis_of(ev)
    is_by_samples = bool(errors) and diagnosis.cause == _BY_SAMPLES
    own = key(diagnosis, ev.state, ev.nodes) if ev.verdict in NEEDS_YOU and not is_by_samples else None
    if own is not None:
        _add(groups, own, ev, diagnosis, share=_ALL_OF_IT)
    for error in errors:
        cause = error.cause or _NO_RULE
        if own is not None and own[0] == cause and _is_one_error(own[1], error.error):
            groups[own].samples += error.samples
            continue
        share = error.samples / total if total and own is None else None
        by_error = Diagnosis(cause, error.error, CAUSES[cause].advice.replace("{module}", "it"))
        _add(groups, (cause, error.error), ev, by_error, share=share)
        groups[cause, error.error].samples += error.samples


def _is_one_error(own: str, error: str) -> bool:
    """Whether an eval's evidence and a sample's error are one: a traceback's line is only the first of a message."""
    texts = [_PLACE.sub("", own), error]
    short, long = sorted((text.rstrip("…") for text in texts), key=len)
    is_cut = any(text.endswith("…") for text in texts)
    return bool(short) and long.startswith(short) and (is_cut or not long[len(short) : len(short) + 1].isalnum())


def _add(groups: dict[Key, _Group], where: Key, ev: EvalSummary, diagnosis: Diagnosis, *, share: float | None) -> None:
    """`share`: of the eval's costs; None: unknown, or counted elsewhere."""
    failures = groups.setdefault(where, _Group(diagnosis))
    failures.advice.add(diagnosis.advice)
    failures.evals[ev.name] = None
    for sums, value in ((failures.gpu_hours, ev.cost.gpu_hours), (failures.money, ev.cost.money)):
        sums.append(None if share is None or value is None else share * value)


def _summary(cause: str, failures: _Group) -> CauseSummary:
    return CauseSummary(
        cause=cause,
        evidence=failures.diagnosis.evidence,
        advice=_advice(cause, failures),
        evals=list(failures.evals),
        samples=failures.samples,
        gpu_hours=sum_of_known(failures.gpu_hours),
        money=sum_of_known(failures.money),
    )


def _advice(cause: str, failures: _Group) -> str | None:
    """The advice that all share; the cause's own where each has its own figures."""
    general = CAUSES[cause].advice if cause in CAUSES else None
    return general if len(failures.advice) > 1 and general and "{" not in general else failures.diagnosis.advice
