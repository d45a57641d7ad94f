"""Reads how far running evals are: the samples that their logs have so far.

Bounded: `budget_s` for one look at all of them, whatever their number; the next look begins with others.
"""

from __future__ import annotations

import os
import time

from evalmon_agent.collect.attempt_files import outputs_of, result_of, script_of, span_of, text_of
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.evidence.result import UNREADABLE, EvalResult
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.words.states import State

BUDGET_S = 1.0


def progress(
    experiment: Experiment, state: ExperimentState, *, owner: int | None = None, budget_s: float = BUDGET_S
) -> dict[str, EvalResult]:
    """By name, what the logs of running evals say so far; an eval whose log tells nothing (yet) is not in it.

    `owner`: whose experiment is read; None: this user's.
    """
    running = [ev for ev in state.evals.values() if ev.state is State.RUNNING]
    if not running:
        return {}
    first = int(time.time()) % len(running)
    reader = LogReader(OwnedFiles(os.geteuid() if owner is None else owner), budget_s=budget_s)
    results: dict[str, EvalResult] = {}
    for ev in running[first:] + running[:first]:
        if reader.is_out_of_time:
            break
        result = _of(reader, experiment, ev)
        if result is not None and result.status != UNREADABLE:  # just being written
            results[ev.name] = result
    return results


def _of(reader: LogReader, experiment: Experiment, ev: Eval) -> EvalResult | None:
    if ev.latest is None:
        return None
    script = script_of(experiment, ev, ev.job_id, files=reader.files)
    output = text_of(outputs_of(script, ev, ev.job_id, files=reader.files).output, files=reader.files)
    span = span_of(ev, ev.latest, output=output)
    return result_of(reader, ev, script, span, job_id=ev.job_id)
