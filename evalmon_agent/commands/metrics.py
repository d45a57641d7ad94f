"""`evalmon metrics`: shows the efficiency figures of any finished jobs, registered or not."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import click

from evalmon_agent.cli.options import json_option
from evalmon_agent.cli.output import interruptible, print_json, print_table
from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.figures import Figures, from_sacct, from_seff, sampled_memory_note
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.slurm import seff
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.words.durations import clock
from evalmon_agent.words.job_id import JobId, parse_job_id, whole_job
from evalmon_agent.words.sizes import human_bytes, number
from evalmon_agent.words.states import ACTIVE, State

_COLUMNS = ("Job", "State", "Elapsed", "Limit", "Time", "CPU", "Memory", "Requested", "Memory %", "Source")
_OPTIONAL = ("Source", "Requested", "Limit")
"""Columns that a narrow terminal does without, the least important first."""

_IDS_PER_CALL = 1000
"""A user waits for the answer, and one call for many jobs takes less time than two."""


@click.command("metrics")
@click.argument("jobs", nargs=-1, required=True, metavar="JOBID...")
@json_option
def command(jobs: Sequence[str], as_json: bool) -> None:
    """Show the efficiency figures of finished jobs."""
    with interruptible("no figures were shown; run it again, with fewer jobs if Slurm is slow"):
        answers = metrics(Slurm(os.environ), parse_ids(jobs))
    if as_json:
        print_json([job.as_dict() for job in answers])
    else:
        print_table(_COLUMNS, [_row(job) for job in answers], optional=_OPTIONAL)
        for job in answers:
            if job.state is State.OUT_OF_MEMORY and job.figures is not None:
                note = sampled_memory_note(job.figures.memory_used_bytes, job.figures.memory_requested_bytes)
                click.echo(f"note: {job.job_id}: {note}" if note else "", nl=bool(note))
    unknown = [job.job_id for job in answers if job.figures is None]
    for job_id in unknown:
        click.echo(f"evalmon: {job_id}: no such job in Slurm's accounting", err=True)
    sys.exit(int(bool(unknown)))


@dataclass(frozen=True, slots=True)
class JobMetrics:
    """One job's figures: None if Slurm does not know the job. `state` is None also for a state unknown to evalmon."""

    job_id: JobId
    state: State | None
    figures: Figures | None

    def as_dict(self) -> dict[str, object]:
        """For --json: the figures beside the id and state, null where unknown."""
        return {
            "job_id": self.job_id,
            "state": None if self.state is None else str(self.state),
            **dataclasses.asdict(self.figures or Figures()),
        }


def parse_ids(texts: Sequence[str]) -> list[JobId]:
    """The ids, or UsageError before any program is started."""
    job_ids = []
    for text in texts:
        job_id = parse_job_id(text)
        if job_id is None:
            raise UsageError(f"{text!r} is not a job id; give one like 123 or 123_4")
        job_ids.append(job_id)
    return job_ids


def metrics(slurm: Slurm, job_ids: Sequence[JobId]) -> list[JobMetrics]:
    """The figures in the order of the ids, from seff or else from accounting; for an array, of all its tasks."""
    if not slurm.has("sacct"):
        raise SlurmUnavailableError("sacct is not on PATH; run evalmon on a host with Slurm's commands")
    # With -D a requeued job has a row per attempt: the last is the one that counts.
    latest: defaultdict[JobId, dict[JobId, SacctJob]] = defaultdict(dict)
    for start in range(0, len(job_ids), _IDS_PER_CALL):
        answer = slurm.account(job_ids[start : start + _IDS_PER_CALL])
        if isinstance(answer, Failure):
            raise SlurmUnavailableError(f"sacct gives no answer: {answer.line}")
        for row in answer.jobs:
            latest[row.job_id][row.job_id] = latest[whole_job(row.job_id)][row.job_id] = row
    answers: list[JobMetrics] = []
    with progress_bar("Reading figures", len(job_ids)) as show:
        for number, job_id in enumerate(job_ids, 1):
            jobs = [JobMetrics(row.job_id, row.state, _figures(slurm, row)) for row in latest[job_id].values()]
            answers += jobs or [JobMetrics(job_id, None, None)]
            show(number)
    return answers


def _figures(slurm: Slurm, row: SacctJob) -> Figures:
    if row.state in ACTIVE or not row.ran or not slurm.has("seff"):
        return from_sacct(row)
    done = slurm.efficiency(row.job_id)
    report = seff.parse_ended(done.stdout) if done.ok else None
    return from_sacct(row) if report is None else from_seff(report, time_limit_s=row.time_limit_s)


def _row(job: JobMetrics) -> list[str]:
    figures = job.figures
    if figures is None:
        return [job.job_id, *["unknown"] * (len(_COLUMNS) - 1)]
    return [
        job.job_id,
        str(job.state or "unknown"),
        clock(figures.elapsed_s),
        clock(figures.time_limit_s),
        number(figures.time_efficiency_pct, "%", digits=2),
        number(figures.cpu_efficiency_pct, "%", digits=2),
        human_bytes(figures.memory_used_bytes),
        human_bytes(figures.memory_requested_bytes),
        number(figures.memory_efficiency_pct, "%", digits=2),
        figures.source or "unknown",
    ]
