"""Builds the summary from the state and the evidence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args

from msgspec.structs import replace

from evalmon_agent.evidence.diagnosis.causes import CAUSES, REFUSED, Diagnosis, one_line
from evalmon_agent.evidence.result import EvalResult, worst
from evalmon_agent.figures.advice import Use, advise
from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.scontrol import hostnames
from evalmon_agent.summary import causes, cost, nodes
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
    by_attempt = results_by_attempt(state)
    settled = {ev.name: by_attempt.get(id(ev.latest), NO_RESULTS) for ev in state.evals.values()}
    for name, so_far in (progress or {}).items():
        if name in state.evals and state.evals[name].state is State.RUNNING:
            settled[name] = EvalResults(results=(so_far,))
    context = _Context(now, settings, by_attempt, are_gpus_accounted=_are_gpus_accounted(state), iso=cache(iso))
    evals = [_eval(ev, settled[ev.name], context) for ev in state.evals.values()]
    advice = [_submission_advice(state)]
    evals = [_waiting(ev, advice) if ev.name in state.waiting else ev for ev in evals]
    evals += [_unsubmitted(name, "active", advice) for name in state.waiting if name not in state.evals]
    submitted = {*state.evals, *state.waiting}
    evals += [_unsubmitted(name, "refused") for name in {**state.refused, **state.dropped} if name not in submitted]
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
        causes=causes.group(evals),
        nodes=nodes.summarise(evals),
        alerts=[_alert(ev, job, alert) for ev in state.counted for job in ev.jobs for alert in job.alerts],
        evals=evals,
    )


def total_time_s(state: ExperimentState) -> float | None:
    """From the first submission to the last end, both by Slurm's clock; None if either is unknown."""
    attempts = [a for ev in state.evals.values() for job in ev.jobs for a in job.attempts]
    begun = min((a.submitted_at for a in attempts if a.submitted_at is not None), default=None)
    ended = max((a.ended_at for a in attempts if a.ended_at is not None), default=None)
    return None if begun is None or ended is None else max(ended - begun, 0.0)


@dataclass(frozen=True, slots=True)
class _Context:
    """What holds for all evals of a summary. `results`: those of each attempt, by its `id()`.

    `iso`: as in `durations`, once for each time: the tasks of an array were submitted at one time.
    """

    now: float
    settings: Settings
    results: Mapping[int, EvalResults]
    are_gpus_accounted: bool
    iso: Callable[[float | None], str | None]


def _are_gpus_accounted(state: ExperimentState) -> bool:
    return any(attempt.gpus for ev in state.evals.values() for job in ev.jobs for attempt in job.attempts)


def _eval(ev: Eval, settled: EvalResults, context: _Context) -> EvalSummary:
    outcome = verdict(ev, settled)
    diagnosis = diagnosis_of(ev, settled) if outcome in UNSUCCESSFUL else None
    attempts, costs = _attempts(ev, diagnosis, context)
    latest = ev.latest
    attempt = latest or _NOTHING
    # Of a job that nothing is known about yet, only its submission is shown.
    last = attempts[-1] if latest is not None else _attempt(ev.jobs[-1], attempt, context, diagnosis)[0]
    figures, evidence = attempt.figures or _NO_FIGURES, attempt.evidence or _NO_EVIDENCE
    return EvalSummary(
        name=ev.name,
        job_id=ev.job_id,
        attempts=attempts,
        state=ev.state,
        verdict=outcome,
        exit_code=last.exit_code,
        signal=last.signal,
        submitted=last.submitted or context.iso(ev.jobs[-1].registered_at),
        started=last.started,
        ended=last.ended,
        queue_s=_queue_s(attempt),
        elapsed_s=first_known(figures.elapsed_s, last.elapsed_s, _running_s(ev, attempt, now=context.now)),
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


def _waiting(ev: EvalSummary, advice: list[str]) -> EvalSummary:
    """An eval that is to be submitted again; what is known about its earlier jobs stays."""
    return replace(ev, state=State.UNSUBMITTED, verdict="active", advice=advice)


def _unsubmitted(name: str, verdict: Verdict, advice: Sequence[str] = ()) -> EvalSummary:
    return EvalSummary(
        name=name, job_id=None, attempts=[], state=State.UNSUBMITTED, verdict=verdict, advice=list(advice)
    )


def _with_registry(ev: EvalSummary, state: ExperimentState) -> EvalSummary:
    """With what only the registry knows of it: that Slurm refused it, or that the user dropped it."""
    refusal = state.refused.get(ev.name)
    if refusal is not None:
        ev = replace(ev, refusal=refusal.error)
    if refusal is not None and ev.verdict == "refused":
        diagnosis = Diagnosis(REFUSED, one_line(refusal.error), CAUSES[REFUSED].advice)
        ev = replace(ev, diagnosis=diagnosis)
    return replace(ev, verdict="dropped") if ev.name in state.dropped else ev


def _submission_advice(state: ExperimentState) -> str:
    why = f" ({state.waiting_for})" if state.waiting_for else ""
    return f"Not submitted yet{why}: submitted once there is room, or by: evalmon submit {state.experiment}"


def _attempts(ev: Eval, diagnosis: Diagnosis | None, context: _Context) -> tuple[list[AttemptSummary], list[Cost]]:
    """Each attempt with what it cost; nothing is known of a job of which no attempt is. `diagnosis`: the latest's."""
    summaries, costs = [], []
    latest = ev.latest
    for job in ev.jobs:
        for attempt in job.attempts:
            evidence = attempt.evidence or _NO_EVIDENCE
            why = diagnosis if attempt is latest else evidence.diagnosis
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
    elapsed_s = first_known(attempt.elapsed_s, report.elapsed_s)
    last_state = end.state if end is not None else state
    gpus = cost.gpus_of(attempt, are_accounted=context.are_gpus_accounted)
    hours = cost.hours_of(attempt, last_state, elapsed_s, now=context.now)
    its_cost = cost.cost_of_attempt(attempt, gpus, hours=hours, prices=context.settings.gpu_hour_price)
    summary = AttemptSummary(
        job_id=job.job_id,
        state=last_state,
        verdict=outcome,
        submitted=context.iso(attempt.submitted_at),
        started=context.iso(first_known(attempt.started_at, report.started_at)),
        ended=context.iso(first_known(attempt.ended_at, report.ended_at)),
        elapsed_s=elapsed_s,
        exit_code=exit_code,
        signal=signal,
        node_list=attempt.node_list,
        cpus=attempt.cpus,
        gpus=gpus,
        gpu_hours=its_cost.gpu_hours,
        cause=None if diagnosis is None else diagnosis.cause,
    )
    return summary, its_cost


def _queue_s(attempt: Attempt) -> float | None:
    """The queue time; both times are Slurm's."""
    if attempt.started_at is None or attempt.submitted_at is None:
        return None
    return max(attempt.started_at - attempt.submitted_at, 0.0)


def _running_s(ev: Eval, attempt: Attempt, *, now: float) -> float | None:
    if ev.final or ev.state is not State.RUNNING or attempt.started_at is None:
        return None
    return max(now - attempt.started_at, 0.0)


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
