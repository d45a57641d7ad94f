"""Builds the summary from the state and the evidence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import get_args

from msgspec import Struct, field
from msgspec.structs import replace

from evalmon_agent.evidence.diagnosis.causes import CAUSES, REFUSED, Diagnosis, one_line
from evalmon_agent.evidence.result import EvalResult, worst
from evalmon_agent.figures import Figures, Use, advise
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.scontrol import hostnames
from evalmon_agent.summary import cost, failures
from evalmon_agent.summary.records import AlertSummary, AttemptSummary, Cost, EvalSummary, Summary, Witnesses
from evalmon_agent.tracking.alerts import action_for, pending
from evalmon_agent.tracking.monitor_job_states import COMPLETE
from evalmon_agent.tracking.records import Alert, Attempt, Eval, Evidence, ExperimentState, Job, JobReport
from evalmon_agent.tracking.timeline import ending, slurm_says
from evalmon_agent.tracking.verdict import (
    NO_RESULTS,
    UNSUCCESSFUL,
    EvalResults,
    Verdict,
    diagnosis_of,
    exit_of,
    results_by_attempt,
    says,
    verdict,
    verdict_on,
    witnesses_agree,
)
from evalmon_agent.words.durations import first_known, iso
from evalmon_agent.words.states import ACTIVE, TERMINAL, State

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_NOTHING, _NO_FIGURES, _NO_EVIDENCE, _NO_REPORT = Attempt(), Figures(), Evidence(), JobReport(0)


def build(
    state: ExperimentState, *, now: float, settings: Settings, progress: Mapping[str, EvalResult] | None = None
) -> Summary:
    """The summary of what is known at `now`; evals in the order of their registration, then those not submitted yet.

    `progress`: what the logs of running evals say so far, by name.
    """
    context = _Context(
        now, settings, results_by_attempt(state), progress or {}, are_gpus_accounted=_are_gpus_accounted(state)
    )
    evals = [_eval(ev, context) for ev in state.evals.values()]
    evals += [_never_submitted(name) for name in state.names if name not in state.evals]
    if state.waiting or state.refused or state.dropped:
        evals = [_with_registry(ev, state) for ev in evals]
    states = Counter(ev.state for ev in evals if ev.verdict != "dropped")
    verdicts = Counter(ev.verdict for ev in evals)
    return Summary(
        experiment=state.experiment,
        generated_at=str(iso(now)),
        complete=state.completion is not None and state.completion.status == COMPLETE,
        total_time_s=total_time_s(state),
        counts={str(s): states[s] for s in State if states[s]},
        verdicts={v: verdicts[v] for v in VERDICTS},
        cost=cost.cost_of_experiment(evals, settings),
        causes=failures.by_cause(evals),
        nodes=failures.by_node(evals),
        alerts=[_alert(ev, job, alert) for ev in state.counted for job in ev.jobs for alert in job.alerts],
        evals=evals,
    )


def total_time_s(state: ExperimentState) -> float | None:
    """From the first submission to the last end, both by Slurm's clock; None if either is unknown."""
    attempts = [a for ev in state.evals.values() for job in ev.jobs for a in job.attempts]
    begun = min((a.submitted_at for a in attempts if a.submitted_at is not None), default=None)
    ended = max((a.ended_at for a in attempts if a.ended_at is not None), default=None)
    return _between_s(begun, ended)


class _Context(Struct, frozen=True):
    """What holds for all evals of a summary. `results`: those of each attempt, by its `id()`.

    `progress`: as in `build`; `iso`: as in `durations`, once for each time, since an array's tasks share their Submit.
    """

    now: float
    settings: Settings
    results: Mapping[int, EvalResults]
    progress: Mapping[str, EvalResult]
    are_gpus_accounted: bool
    iso: Callable[[float | None], str | None] = field(default_factory=lambda: cache(iso))


def _are_gpus_accounted(state: ExperimentState) -> bool:
    return any(attempt.gpus for ev in state.evals.values() for job in ev.jobs for attempt in job.attempts)


def _eval(ev: Eval, context: _Context) -> EvalSummary:
    job = ev.jobs[-1]
    attempt = job.latest or _NOTHING
    settled = context.results.get(id(attempt), NO_RESULTS)
    if ev.state is State.RUNNING and ev.name in context.progress:
        settled = EvalResults(results=(context.progress[ev.name],))
    outcome = verdict(ev, settled)
    diagnosis = diagnosis_of(ev, settled) if outcome in UNSUCCESSFUL else None
    attempts, costs = _attempts(ev, attempt, diagnosis, context)
    # Of a job that nothing is known about yet, only its submission is shown.
    last = attempts[-1] if job.attempts else _attempt(job, attempt, context, diagnosis)[0]
    figures, evidence = attempt.figures or _NO_FIGURES, attempt.evidence or _NO_EVIDENCE
    return EvalSummary(
        name=ev.name,
        job_id=ev.job_id,
        attempts=attempts,
        state=ev.state,
        verdict=outcome,
        exit_code=last.exit_code,
        signal=last.signal,
        submitted=last.submitted or context.iso(job.registered_at),
        started=last.started,
        ended=last.ended,
        queue_s=_between_s(attempt.submitted_at, attempt.started_at),
        elapsed_s=first_known(figures.elapsed_s, last.elapsed_s, _running_s(ev, attempt, context.now)),
        time_limit_s=first_known(figures.time_limit_s, attempt.time_limit_s),
        time_efficiency_pct=figures.time_efficiency_pct,
        cpu_efficiency_pct=figures.cpu_efficiency_pct,
        memory_used_bytes=figures.memory_used_bytes,
        memory_requested_bytes=figures.memory_requested_bytes,
        memory_efficiency_pct=figures.memory_efficiency_pct,
        metrics_source=figures.source,
        gpu=evidence.gpu,
        result=worst(settled.results),
        results=list(settled.results),
        result_unknown=settled.unknown if ev.final else None,
        diagnosis=diagnosis,
        advice=_advice(ev, attempt, succeeded=outcome == "ok"),
        witnesses=Witnesses(slurm_says(attempt), says(attempt.report), witnesses_agree(ev)),
        nodes=list(hostnames(attempt.node_list)) if attempt.node_list else [],
        cost=cost.cost_of_eval(costs, settled.results, context.settings),
        output_dir=ev.output_dir,
        log=evidence.log,
        foreign=evidence.foreign,
    )


def _alert(ev: Eval, job: Job, alert: Alert) -> AlertSummary:
    text, advice = "runs without reporting", "Make evalmon's interpreter readable on the compute nodes"
    if alert.kind == "waits":
        text, advice = f"waits: {alert.reason}", action_for(alert.reason, job.job_id) or ""
    return AlertSummary(iso(alert.at), alert.kind, ev.name, text, advice or None, iso(alert.cleared_at))


def _never_submitted(name: str) -> EvalSummary:
    """It waits, unless Slurm refused it or the user dropped it."""
    return EvalSummary(name=name, job_id=None, attempts=[], state=State.UNSUBMITTED, verdict="refused")


def _with_registry(ev: EvalSummary, state: ExperimentState) -> EvalSummary:
    """With what only the registry knows of it: that it is to be submitted (again), was refused, or was dropped.

    What is known about its earlier jobs stays.
    """
    if ev.name in state.waiting:
        ev = replace(ev, state=State.UNSUBMITTED, verdict="active", advice=[_submission_advice(state)])
    refusal = state.refused.get(ev.name)
    if refusal is not None:
        ev = replace(ev, refusal=refusal.error)
    if refusal is not None and ev.verdict == "refused":
        ev = replace(ev, diagnosis=Diagnosis(REFUSED, one_line(refusal.error), CAUSES[REFUSED].advice))
    return replace(ev, verdict="dropped") if ev.name in state.dropped else ev


def _submission_advice(state: ExperimentState) -> str:
    why = f" ({state.waiting_for})" if state.waiting_for else ""
    return f"Not submitted yet{why}: submitted once there is room, or by: evalmon submit {state.experiment}"


def _attempts(
    ev: Eval, latest: Attempt, diagnosis: Diagnosis | None, context: _Context
) -> tuple[list[AttemptSummary], list[Cost]]:
    """Each attempt with what it cost; nothing is known of a job of which no attempt is. `diagnosis`: the latest's."""
    summaries, costs = [], []
    for job in ev.jobs:
        for attempt in job.attempts:
            why = diagnosis if attempt is latest else (attempt.evidence or _NO_EVIDENCE).diagnosis
            summary, its_cost = _attempt(job, attempt, context, why)
            summaries.append(summary)
            costs.append(its_cost)
        if not job.attempts and (ev.final or job is not ev.jobs[-1]):
            costs.append(Cost())
    return summaries, costs


def _attempt(job: Job, attempt: Attempt, context: _Context, diagnosis: Diagnosis | None) -> tuple[AttemptSummary, Cost]:
    """One attempt: what Slurm knows of it, and where it knows nothing, the job's own report; and what it cost."""
    report = attempt.report or _NO_REPORT
    end = ending(job, attempt, lost_after_s=context.settings.lost_after)
    state = slurm_says(attempt) or (State.RUNNING if attempt.report is not None else None)
    exit_code, signal = exit_of(attempt, state)
    results = context.results.get(id(attempt), NO_RESULTS)
    outcome = verdict_on(end.state, attempt, results) if end is not None and end.state in TERMINAL else None
    last_state = end.state if end is not None else state
    gpus = cost.gpus_of(attempt, are_accounted=context.are_gpus_accounted)
    hours = cost.hours_of(attempt, last_state, now=context.now)
    its_cost = cost.cost_of_attempt(attempt, gpus, hours=hours, prices=context.settings.gpu_hour_price)
    summary = AttemptSummary(
        job_id=job.job_id,
        state=last_state,
        verdict=outcome,
        submitted=context.iso(attempt.submitted_at),
        started=context.iso(first_known(attempt.started_at, report.started_at)),
        ended=context.iso(first_known(attempt.ended_at, report.ended_at)),
        elapsed_s=attempt.ran_for_s,
        exit_code=exit_code,
        signal=signal,
        node_list=attempt.node_list,
        cpus=attempt.cpus,
        gpus=gpus,
        gpu_hours=its_cost.gpu_hours,
        cause=None if diagnosis is None else diagnosis.cause,
    )
    return summary, its_cost


def _between_s(begun: float | None, ended: float | None) -> float | None:
    """By one clock; None if a time is unknown."""
    return None if begun is None or ended is None else max(ended - begun, 0.0)


def _running_s(ev: Eval, attempt: Attempt, now: float) -> float | None:
    return None if ev.final or ev.state is not State.RUNNING else _between_s(attempt.started_at, now)


def _advice(ev: Eval, attempt: Attempt, *, succeeded: bool) -> list[str]:
    if attempt.figures is None and attempt.evidence is None and ev.state in ACTIVE:
        return _waits_for(ev)  # nothing is known of its use yet
    figures, evidence = attempt.figures or _NO_FIGURES, attempt.evidence or _NO_EVIDENCE
    use = Use(
        state=ev.state,
        succeeded=succeeded,
        figures=figures,
        elapsed_s=first_known(figures.elapsed_s, attempt.elapsed_s),
        time_limit_s=first_known(figures.time_limit_s, attempt.time_limit_s),
        cpus=attempt.cpus,
        nodes=attempt.node_list,
        gpu=evidence.gpu,
    )
    return [*advise(use), *_waits_for(ev)]


def _waits_for(ev: Eval) -> list[str]:
    """What to do about an eval that waits for something that will not happen."""
    attempt = pending(ev)
    action = None if attempt is None else action_for(attempt.queue_reason, ev.job_id)
    return [] if attempt is None or action is None else [f"Slurm says {attempt.queue_reason}: {action}"]
