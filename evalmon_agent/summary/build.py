"""What is to be said of each eval: from the state and the evidence to the summary. Pure."""

from __future__ import annotations

import datetime as dt
from collections import Counter

from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.summary.records import AttemptSummary, EvalSummary, Summary, Witnesses
from evalmon_agent.tracking.helpers import COMPLETE
from evalmon_agent.tracking.path import attempts_of, ending, own_of
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState, Own
from evalmon_agent.tracking.verdict import (
    LogSays,
    Verdict,
    latest_attempt,
    latest_own,
    verdict,
    witnesses_agree,
)
from evalmon_agent.words.states import State

VERDICTS: tuple[Verdict, ...] = ("ok", "failed", "suspect", "active")


def build(state: ExperimentState, *, now: float, lost_after_s: float) -> Summary:
    """The summary of what is known at `now`; evals in the order of their registration."""
    evals = [_eval(ev, now=now, lost_after_s=lost_after_s) for ev in state.evals.values()]
    states = Counter(ev.state for ev in evals)
    verdicts = Counter(ev.verdict for ev in evals)
    return Summary(
        experiment=state.experiment,
        generated_at=str(_iso(now)),
        complete=state.completion is not None and state.completion.status == COMPLETE,
        total_time_s=total_time_s(state),
        counts={str(s): states[s] for s in State if states[s]},
        verdicts={v: verdicts[v] for v in VERDICTS},
        evals=evals,
    )


def total_time_s(state: ExperimentState) -> float | None:
    """From the first submission to the last end, both by Slurm's clock; None if either is unknown."""
    attempts = [a for ev in state.evals.values() for a in ev.attempts]
    begun = min((a.submitted_at for a in attempts if a.submitted_at is not None), default=None)
    ended = max((a.ended_at for a in attempts if a.ended_at is not None), default=None)
    return None if begun is None or ended is None else max(ended - begun, 0.0)


def _eval(ev: Eval, *, now: float, lost_after_s: float) -> EvalSummary:
    attempt, own = latest_attempt(ev), latest_own(ev)
    figures = (attempt.figures if attempt is not None else None) or Figures()
    found = (attempt.evidence if attempt is not None else None) or Evidence()
    log = LogSays(found.expects_log, found.result.succeeded if found.result is not None else None)
    judged = verdict(ev, log)
    exit_code, signal = _exit(attempt, own)
    submitted_at = attempt.submitted_at if attempt is not None else ev.jobs[-1].registered_at
    started_at = attempt.started_at if attempt is not None else None
    return EvalSummary(
        name=ev.name,
        job_id=ev.job_id,
        attempts=_attempts(ev, lost_after_s=lost_after_s),
        state=ev.state,
        verdict=judged,
        exit_code=exit_code,
        signal=signal,
        submitted=_iso(submitted_at),
        started=_iso(started_at),
        ended=_iso(attempt.ended_at if attempt is not None else None),
        queue_s=None if started_at is None or submitted_at is None else max(started_at - submitted_at, 0.0),
        elapsed_s=_elapsed_s(ev, attempt, figures, now=now),
        time_limit_s=figures.time_limit_s or (attempt.time_limit_s if attempt is not None else None),
        time_efficiency_pct=figures.time_efficiency_pct,
        cpu_efficiency_pct=figures.cpu_efficiency_pct,
        memory_used_bytes=figures.memory_used_bytes,
        memory_requested_bytes=figures.memory_requested_bytes,
        memory_efficiency_pct=figures.memory_efficiency_pct,
        metrics_source=figures.source,
        gpu=found.gpu,
        result=found.result,
        diagnosis=None,
        advice=_advice(ev),
        witnesses=Witnesses(_slurm_says(attempt), _self_says(own), witnesses_agree(ev)),
        output_dir=ev.output_dir,
        log=found.log,
    )


def _attempts(ev: Eval, *, lost_after_s: float) -> list[AttemptSummary]:
    found = []
    for job in ev.jobs:
        attempts = attempts_of(ev, job.job_id)
        for number, (_, attempt) in enumerate(attempts):
            own = own_of(ev, job.job_id, number)
            superseded = number + 1 < len(attempts)
            end = ending(attempt, own, job, superseded=superseded, lost_after_s=lost_after_s)
            exit_code, signal = _exit(attempt, own)
            found.append(
                AttemptSummary(
                    job_id=attempt.job_id,
                    state=end.state if end is not None else attempt.queue_state,
                    submitted=_iso(attempt.submitted_at),
                    started=_iso(attempt.started_at),
                    ended=_iso(attempt.ended_at),
                    elapsed_s=attempt.elapsed_s,
                    exit_code=exit_code,
                    signal=signal,
                    node_list=attempt.node_list,
                )
            )
    return found


def _exit(attempt: Attempt | None, own: Own | None) -> tuple[int | None, int | None]:
    """The job's own report decides: Slurm up to 25.05 folds status 137 into signal 9."""
    if own is not None and own.ended:
        return own.exit_code, own.signal
    return (attempt.exit_code, attempt.signal) if attempt is not None else (None, None)


def _elapsed_s(ev: Eval, attempt: Attempt | None, figures: Figures, *, now: float) -> float | None:
    if attempt is None:
        return None
    known = figures.elapsed_s if figures.elapsed_s is not None else attempt.elapsed_s
    if known is not None or ev.final:
        return known
    running = ev.state is State.RUNNING and attempt.started_at is not None
    return max(now - attempt.started_at, 0.0) if running and attempt.started_at is not None else None


def _advice(ev: Eval) -> list[str]:
    if ev.state is State.TIMEOUT:
        return ["Time limit exceeded: increase the eval's time limit"]
    if ev.state is State.OUT_OF_MEMORY:
        return ["Memory limit exceeded: increase the eval's --mem"]
    return []


def _slurm_says(attempt: Attempt | None) -> str | None:
    if attempt is None:
        return None
    state = attempt.account_state or attempt.queue_state
    return str(state) if state is not None else None


def _self_says(own: Own | None) -> str | None:
    if own is None:
        return None
    if own.signal is not None:
        return f"signal {own.signal}"
    if own.exit_code is not None:
        return f"exit {own.exit_code}"
    return "started"


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return dt.datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
