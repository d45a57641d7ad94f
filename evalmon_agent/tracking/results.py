"""Settles which results each eval has, over the whole experiment: a log has at most one owner. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from evalmon_agent.evidence.kinds import BY_NAME
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.evidence.owners import JobResults, ObservedJob, results
from evalmon_agent.evidence.result import EvalLog, EvalResult, to_result
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState, JobReport
from evalmon_agent.words.durations import first_known


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
NOT_LOOKED_FOR = "its output and logs were not looked at yet"

_NEVER = float("inf")
_CLOCKS_DIFFER_S = 600.0
"""How far the clocks of two nodes and of the file server are apart at most; munge refuses half of that."""


def settle(
    state: ExperimentState, *, only: Collection[str] | None = None, so_far: Mapping[str, Evidence] | None = None
) -> dict[str, EvalResults]:
    """The results of each eval, by its name.

    Args:
        state: of the whole experiment: another eval may have written the same logs.
        only: the evals that are asked for; None: all.
        so_far: what the latest attempts of some evals have left behind by now, where the state does not say it.
    """
    by_attempt = results_by_attempt(state, only=only, so_far=so_far)
    evals = [ev for name, ev in state.evals.items() if only is None or name in only]
    return {ev.name: by_attempt.get(id(ev.latest), NO_RESULTS) for ev in evals}


def results_by_attempt(
    state: ExperimentState, *, only: Collection[str] | None = None, so_far: Mapping[str, Evidence] | None = None
) -> dict[int, EvalResults]:
    """The same for each attempt that ran, earlier ones included, by its `id()`."""
    fresh = so_far or {}
    evals = [ev for name, ev in state.evals.items() if only is None or name in only]
    jobs: dict[int, ObservedJob] = {}
    logs: dict[str, EvalLog] = {}
    # An earlier attempt's logs, and those of an earlier job, are its own: nobody else's.
    for ev, attempt in _attempts(state, evals):
        evidence = (fresh.get(ev.name) if attempt is ev.latest else None) or attempt.evidence or Evidence()
        jobs[id(attempt)] = _observed(attempt, evidence)
        for log in evidence.logs:
            logs[log.path] = max(log, logs.get(log.path, log), key=lambda log: log.changed_at)
    found = results(jobs, list(logs.values()))
    return {
        id(attempt): _results_of(attempt, found[id(attempt)], logs, is_fresh=ev.name in fresh and attempt is ev.latest)
        for ev in evals
        for job in ev.jobs
        for attempt in job.attempts
        if id(attempt) in jobs
    }


def _attempts(state: ExperimentState, evals: Collection[Eval]) -> Iterator[tuple[Eval, Attempt]]:
    """The attempts that ran; of other evals those that did so at the same time, for only they can have their logs."""
    ran = [attempt for ev in evals for job in ev.jobs for attempt in job.attempts if attempt.has_run]
    names = {ev.name for ev in evals}
    since = min(map(_started_at, ran), default=_NEVER) - _CLOCKS_DIFFER_S
    until = max(map(_ended_at, ran), default=0.0) + _CLOCKS_DIFFER_S
    for ev in state.evals.values():
        for job in ev.jobs:
            for attempt in job.attempts:
                is_near = ev.name in names or (_started_at(attempt) <= until and _ended_at(attempt) >= since)
                if attempt.has_run and is_near:
                    yield ev, attempt


def _started_at(attempt: Attempt) -> float:
    reported_at = attempt.report.started_at if attempt.report is not None else None
    return first_known(reported_at, attempt.started_at, attempt.submitted_at) or 0.0


def _ended_at(attempt: Attempt) -> float:
    reported_at = attempt.report.ended_at if attempt.report is not None else None
    return first_known(reported_at, attempt.ended_at) or _NEVER


def _results_of(attempt: Attempt, own: JobResults, logs: Mapping[str, EvalLog], *, is_fresh: bool) -> EvalResults:
    if attempt.evidence is None and not is_fresh:
        return EvalResults(unknown=NOT_LOOKED_FOR)
    return EvalResults(
        results=[to_result(logs[path], known_by=proof) for path, proof in own.logs.items()],
        missing=len(own.without_log),
        unknown=own.unverified,
    )


def _observed(attempt: Attempt, evidence: Evidence) -> ObservedJob:
    report = attempt.report or JobReport(0)
    witness = report.witness
    ended_at = first_known(report.ended_at, attempt.ended_at)
    return ObservedJob(
        started_at=_started_at(attempt),
        ended_at=ended_at,
        programs=[_observed_program(program, evidence, ended_at) for program in report.eval_programs],
        printed=evidence.printed,
        is_watched=witness is not None and witness.by == "cgroup",
        nodes_unseen=0 if witness is None else witness.nodes_unseen,
        left_out=0 if witness is None else witness.left_out,
        names_framework=evidence.names_framework,
        not_all_read=evidence.not_all_read,
    )


def _observed_program(program: ObservedProgram, evidence: Evidence, job_ended_at: float | None) -> ObservedProgram:
    """With what its settings file says; one whose end nobody saw ended with its job."""
    kind = BY_NAME.get(program.kind)
    configured = program if kind is None else kind.configured(program, evidence.configured)
    return configured if program.ended_at is not None else replace(configured, ended_at=job_ended_at)
