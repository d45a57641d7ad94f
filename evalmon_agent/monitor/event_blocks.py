"""How are events told: each event of the fold as its block of the log. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable

from evalmon_agent.evidence.diagnosis.diagnose import diagnose
from evalmon_agent.evidence.diagnosis.records import AttemptEnd, Diagnosis
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.logbook import blocks
from evalmon_agent.tracking.case import case_of
from evalmon_agent.tracking.events import Event, Measured, Transition
from evalmon_agent.tracking.path import slurm_says
from evalmon_agent.tracking.records import Attempt, Eval, ExperimentState
from evalmon_agent.tracking.verdict import agree, says
from evalmon_agent.words.states import TERMINAL, State


def blocks_of(
    events: Iterable[Event], state: ExperimentState, experiment: Experiment, *, now: float
) -> list[list[str]]:
    """The blocks in the order of the events."""
    return [block for event in events for block in _blocks(event, state.evals[event.name], experiment, now=now)]


def result_log(ev: Eval, experiment: Experiment) -> str | None:
    """Where the eval's own logs lie, as the user's text writes it: `{run}/eval/logs/`, seen from EXP."""
    if ev.script is None:
        return None
    return experiment.relative(os.path.join(os.path.dirname(ev.script), "logs")) + "/"


def _blocks(event: Event, ev: Eval, experiment: Experiment, *, now: float) -> list[list[str]]:
    if isinstance(event, Measured):
        return _measured(event, now=now)
    found = _without_a_start(event, ev)
    told = [] if found is None else [blocks.diagnosis(now, event.name, event.job_id, found)]
    return [_transition(event, ev, experiment, now=now), *told]


def _transition(event: Transition, ev: Eval, experiment: Experiment, *, now: float) -> list[str]:
    if event.current not in TERMINAL:
        return blocks.state_change(
            now, event.name, event.job_id, previous=event.previous, current=event.current, at=event.at
        )
    block = blocks.state_change_terminal(
        now,
        event.name,
        event.job_id,
        previous=event.previous,
        current=event.current,
        at=event.at,
        elapsed_s=_elapsed_s(event.attempt),
        result_log=result_log(ev, experiment),
    )
    return [*block, *_notes(event)]


def _without_a_start(event: Transition, ev: Eval) -> Diagnosis | None:
    """Why one that never ran is over: nothing of it will be measured."""
    if not (ev.final and event.current is ev.state and event.job_id == ev.job_id):
        return None
    if event.attempt is None:
        return diagnose(AttemptEnd(state=event.current))
    return None if event.attempt.has_run else diagnose(case_of(event.attempt, state=event.current))


def _notes(event: Transition) -> list[str]:
    if event.current is State.LOST:
        forgets = (
            "; it keeps no trace of an array's task that is cancelled before its start" if _never_ran(event) else ""
        )
        return [f"Note: Slurm has not known this job for longer than lost_after; how it ended is unknown{forgets}"]
    if event.witness == "self":
        return ["Note: from the job's own report; Slurm's accounting does not have it"]
    report = event.attempt.report if event.attempt is not None else None
    if agree(event.current, report) is False:
        return [f"Note: the witnesses disagree: Slurm says {event.current}, the job itself {says(report)}"]
    return []


def _never_ran(event: Transition) -> bool:
    """Whether this is an array's task that was last seen waiting [ran, 22.05: neither squeue nor sacct has it then]."""
    return "_" in event.job_id and event.previous is State.PENDING


def _elapsed_s(attempt: Attempt | None) -> float | None:
    if attempt is None or attempt.elapsed_s is not None or attempt.report is None:
        return attempt.elapsed_s if attempt is not None else None
    return attempt.report.elapsed_s


def _measured(event: Measured, *, now: float) -> list[list[str]]:
    attempt = event.attempt
    state = slurm_says(attempt) or State.COMPLETED
    found = [blocks.compute_metrics(now, event.name, event.job_id, attempt.figures or Figures(), state=state)]
    evidence = attempt.evidence
    if evidence is not None and (evidence.expects_log or evidence.result is not None):
        found.append(blocks.eval_result(now, event.name, event.job_id, evidence.result))
    if evidence is not None and evidence.diagnosis is not None:
        found.append(blocks.diagnosis(now, event.name, event.job_id, evidence.diagnosis))
    return found
