"""Settles which results each eval has, over the whole experiment: a log has at most one owner. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.kinds import expects_log
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.tracking.records import Eval, Evidence, ExperimentState


@dataclass(frozen=True, slots=True)
class EvalResults:
    """What the latest attempt of an eval has to show.

    Attributes:
        results: one for each log that is its own by proof.
        missing: how many programs began an eval and left no log where it should be.
        unknown: why a result cannot be known from here; None: nothing is unknown.
    """

    results: Sequence[EvalResult] = ()
    missing: int = 0
    unknown: str | None = None


NO_RESULTS = EvalResults()
NOBODY_SAW = "nobody was in the job to see"


def settle(state: ExperimentState) -> dict[str, EvalResults]:
    """The results of each eval, by its name."""
    return {ev.name: _results_of(ev) for ev in state.evals.values()}


def _results_of(ev: Eval) -> EvalResults:
    evidence = ev.latest.evidence if ev.latest is not None else None
    evidence = evidence or Evidence()
    if evidence.result is not None:
        return EvalResults(results=(evidence.result,))
    report = ev.latest.report if ev.latest is not None else None
    if report is not None and expects_log("", report.programs):
        return EvalResults(missing=1)
    # A script's text alone is no proof that an eval began.
    return EvalResults(unknown=NOBODY_SAW if evidence.expects_log else None)
