"""Collects what an ended attempt left behind: its GPU metrics, its logs, why it failed; and how far running evals are.

Bounded in time, and without the lock.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from evalmon_agent.collect.attempt_files import (
    AttemptSpan,
    log_places,
    outputs_by_slurm,
    outputs_of,
    own_logs,
    script_of,
    span_of,
    text_of,
    unopened_file,
)
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.evidence.diagnosis.diagnose import diagnose, ends_in_error
from evalmon_agent.evidence.gpu_csv import GpuRow, parse
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.gpu_measure import between, figures
from evalmon_agent.evidence.kinds import is_named_in
from evalmon_agent.evidence.result import UNREADABLE, EvalResult, worst
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import user_name
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState, Foreign, Job, JobReport
from evalmon_agent.tracking.timeline import ENDS, Unmeasured, slurm_says
from evalmon_agent.tracking.verdict import AttemptsByTime, end_of_attempt, settle, was_not_started
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import State

_BUDGET_S = 20.0
_PROGRESS_BUDGET_S = 1.0
"""For one look at all running evals, whatever their number; the next look begins with others."""
_CSV = re.compile(r"gpu_metrics(?:\.[^/]+)?\.csv")
_CSV_BYTES = 16 * 1024 * 1024


def collect(
    experiment: Experiment,
    state: ExperimentState,
    owed: Unmeasured,
    reader: LogReader,
    *,
    slurm: Slurm,
    by_time: AttemptsByTime | None = None,
) -> Evidence:
    """The evidence of one ended attempt; what cannot be read is not there.

    Slurm is asked only about a job that it could not start, and about one whose output was not found.
    """
    # No job waits for this: where many evals share a directory, all its logs may have to be read (10,000 in 8 s).
    files = reader.files
    files.foreign.clear()
    reader.renew(budget_s=_BUDGET_S)
    ev, job, attempt = owed.ev, owed.job, owed.attempt
    script = script_of(experiment, ev, job.job_id, files=files)
    outputs = outputs_of(script, ev, job.job_id, files=files)
    if outputs.output is None:
        outputs = outputs_by_slurm(slurm, job.job_id, attempt, files=files)
    output = text_of(outputs.output, files=files)
    errors = text_of(outputs.errors, files=files)
    evidence = replace(
        own_logs(reader, attempt, output=output, places=log_places(ev, script, job.job_id)),
        gpu=read_gpu_figures(files, ev.output_dir, span_of(attempt), attempt.report),
        names_framework=is_named_in(script),
        log=None if _is_behind(outputs.output, files.foreign) else outputs.output,
        foreign=[Foreign(printable(path), printable(user_name(uid))) for path, uid in sorted(files.foreign.items())],
    )
    if not owed.is_latest:
        return evidence
    # Over the whole experiment: a neighbour's log must not tell why this one failed.
    results = settle(state, only={ev.name}, so_far={ev.name: evidence}, by_time=by_time)[ev.name]
    end = end_of_attempt(
        attempt,
        state=_state(ev, job, attempt),
        printed=f"{output}\n{errors}",
        result=worst(results.results),
        expects_log=results.missing > 0,
        unopened=unopened_file(outputs, slurm, job.job_id) if was_not_started(attempt) else None,
    )
    return replace(evidence, diagnosis=diagnose(end), ends_in_error=ends_in_error(end.output))


def read_gpu_figures(
    files: OwnedFiles, output_dir: str | None, span: AttemptSpan | None, report: JobReport | None
) -> GpuFigures | None:
    """The figures of the rows that the attempt wrote; None if there are none, or its time is not known.

    How many samples there should be follows from the job's own report alone: Slurm's clock is another, and it does not
    know the interval.
    """
    report = report or JobReport(0)
    nodes = read_gpu_rows(files, output_dir, span)
    return figures(nodes, started_at=report.started_at, ended_at=report.ended_at, interval_s=report.sample_interval_s)


def read_gpu_rows(files: OwnedFiles, output_dir: str | None, span: AttemptSpan | None) -> list[list[GpuRow]]:
    """The rows that the attempt wrote, a list for each of its nodes; none if its time is not known."""
    if output_dir is None or span is None:
        return []
    start, end = span.started_at - span.slack_s, (span.ended_at or float("inf")) + span.slack_s
    with suppress(OSError):
        with files.scan(output_dir) as entries:
            names = sorted(entry.name for entry in entries if _CSV.fullmatch(entry.name))
        texts = [files.read_tail(os.path.join(output_dir, name), limit_bytes=_CSV_BYTES) for name in names]
        tables = [parse(text) for text in texts if text is not None]
        return [between(table.rows, start_unix_s=start, end_unix_s=end) for table in tables]
    return []


def _is_behind(path: str | None, foreign: Iterable[str]) -> bool:
    """Whether the path is, or leads through, something that belongs to somebody else."""
    return path is not None and any(path == place or path.startswith(f"{place}/") for place in foreign)


def _state(ev: Eval, job: Job, attempt: Attempt) -> State | None:
    """How it ended: Slurm's word, and where it has none, what the log was told (by the job itself, or LOST)."""
    state = slurm_says(attempt)
    return state if state in ENDS else ev.logged_state(job.job_id)


def progress(
    experiment: Experiment, state: ExperimentState, *, owner: int | None = None, budget_s: float = _PROGRESS_BUDGET_S
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
    return own_logs(reader, attempt, output=output, places=log_places(ev, script, ev.job_id))
