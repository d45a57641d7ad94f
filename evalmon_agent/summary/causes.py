"""Groups failures, suspects and failed samples by cause and evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import starmap

from evalmon_agent.evidence.diagnosis.causes import CAUSES
from evalmon_agent.evidence.diagnosis.diagnose import CAUSE_BY_STATE
from evalmon_agent.evidence.diagnosis.records import UNKNOWN, Diagnosis
from evalmon_agent.evidence.normalised import normalised
from evalmon_agent.summary.cost import sum_of_known
from evalmon_agent.summary.records import CauseSummary, EvalSummary
from evalmon_agent.words.states import State

_ENDED_BADLY = frozenset({"failed", "suspect", "refused"})

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
        if ev.verdict in _ENDED_BADLY:
            diagnosis = ev.diagnosis or by_state(ev.state)
            _add(groups, key(diagnosis, ev.state), ev, diagnosis)
    causes = starmap(_summary, ((cause, found) for (cause, _), found in groups.items()))
    return sorted(causes, key=lambda found: (-(found.gpu_hours or 0), -len(found.evals), -found.samples))


def key(diagnosis: Diagnosis, state: State) -> Key:
    """The same for two failures that a person calls the same error."""
    if CAUSE_BY_STATE.get(state) == diagnosis.cause:
        return diagnosis.cause, ""  # Slurm says why, in one wording or another
    lines = (diagnosis.evidence or "").split("\n")
    return diagnosis.cause, "\n".join(map(normalised, lines))


def by_state(state: State) -> Diagnosis:
    """The diagnosis of an attempt that was not measured yet."""
    cause = CAUSE_BY_STATE.get(state, UNKNOWN)
    return Diagnosis(cause, None, CAUSES[cause].advice)


def _add(groups: dict[Key, _Group], where: Key, ev: EvalSummary, diagnosis: Diagnosis) -> None:
    found = groups.setdefault(where, _Group(diagnosis))
    found.advice.add(diagnosis.advice)
    found.evals[ev.name] = None
    found.gpu_hours.append(ev.cost.gpu_hours)
    found.money.append(ev.cost.money)


def _summary(cause: str, found: _Group) -> CauseSummary:
    return CauseSummary(
        cause=cause,
        evidence=found.diagnosis.evidence,
        advice=_advice(cause, found),
        evals=list(found.evals),
        samples=found.samples,
        gpu_hours=sum_of_known(found.gpu_hours),
        money=sum_of_known(found.money),
    )


def _advice(cause: str, found: _Group) -> str | None:
    """The advice that all share; the cause's own where each has its own figures."""
    general = CAUSES[cause].advice if cause in CAUSES else None
    return general if len(found.advice) > 1 and general and "{" not in general else found.diagnosis.advice
