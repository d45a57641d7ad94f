"""Reads how far running evals are: the samples that their logs have so far.

Bounded: `budget_s` for one look at all of them, whatever their number; the next look begins with others.
"""

from __future__ import annotations

import os
import time

from msgspec.structs import replace

from evalmon_agent.collect.attempt_files import log_places, outputs_of, script_of, text_of
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.collect.own_logs import own_logs
from evalmon_agent.evidence.result import UNREADABLE, EvalResult, worst
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState
from evalmon_agent.tracking.verdict import settle
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
    left: dict[str, Evidence] = {}
    for ev in running[first:] + running[:first]:
        if reader.is_out_of_time:
            break
        if ev.latest is not None:
            left[ev.name] = _left_so_far(reader, experiment, ev, ev.latest)
    # No log that is being written is an ended job's.
    settled = settle(replace(state, evals={ev.name: ev for ev in running}), so_far=left)
    results = {name: worst(settled[name].results) for name in left}
    # What is unreadable is just being written.
    return {name: result for name, result in results.items() if result is not None and result.status != UNREADABLE}


def _left_so_far(reader: LogReader, experiment: Experiment, ev: Eval, attempt: Attempt) -> Evidence:
    script = script_of(experiment, ev, ev.job_id, files=reader.files)
    output = text_of(outputs_of(script, ev, ev.job_id, files=reader.files).output, files=reader.files)
    found = own_logs(reader, attempt, output=output, places=log_places(ev, script, ev.job_id))
    return Evidence(logs=list(found.logs.values()), printed=found.printed, configured=found.configured)
