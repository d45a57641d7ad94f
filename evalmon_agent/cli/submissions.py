"""Prints what `submit`, `watch` and `retry` did; outside text is made printable."""

from __future__ import annotations

import shlex

import click

from evalmon_agent.cli.output import print_json
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.settings_file import readable_urls
from evalmon_agent.files.permissions import exposure
from evalmon_agent.files.pinned import shown
from evalmon_agent.settings import Settings
from evalmon_agent.submitting.submit_evals import MonitorJobReports, SubmitReport, Totals
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted

_LINE_CHARS = 16 * 1024
"""The length of one warning, which may name long paths; a command to type must be complete."""

_WAITING_SHOWN = 10


def print_submitted(report: SubmitReport, experiment: Experiment, *, dry_run: bool, as_json: bool) -> None:
    """Print what was submitted and what was not; warnings and Slurm's refusals (verbatim) on stderr, one line each."""
    for warning in report.warnings:
        click.echo(f"evalmon: warning: {printable(warning, max_chars=_LINE_CHARS)}", err=True)
    if as_json:
        print_json(report)
    else:
        _print_evals(report, dry_run=dry_run)
        print_monitor_jobs(report)
        if report.totals is not None:
            click.echo(_totals(report.totals))
        if not dry_run:
            print_places(experiment, report)
    verb = "would refuse" if dry_run else "refused"
    for refused in report.refused:
        words = " ".join(printable(line) for line in refused["error"].splitlines())
        click.echo(f"evalmon: {printable(refused['script'])}: Slurm {verb} it: {words}", err=True)
    print_refused_monitor_jobs(report)


def _print_evals(report: SubmitReport, *, dry_run: bool) -> None:
    verb = "would submit" if dry_run else "submitted"
    for ev in report.submitted:
        job = f"  job {ev['job_id']}" if "job_id" in ev else ""
        why = f"  ({printable(ev['why'], max_chars=400)})" if "why" in ev else ""
        click.echo(f"{verb} {printable(ev['name'])}{job}{why}")
    for skipped in report.skipped:
        job = f"  job {skipped['job_id']}" if skipped["job_id"] else ""
        click.echo(f"skipped {printable(str(skipped['name']))}{job}: {skipped['why']}")
    for ev in report.waiting[:_WAITING_SHOWN]:
        click.echo(f"not submitted yet: {printable(ev['name'])} ({printable(ev['why'])})")
    if len(report.waiting) > _WAITING_SHOWN:
        click.echo(f"not submitted yet: {len(report.waiting) - _WAITING_SHOWN} more; see evalmon status")


def _totals(totals: Totals) -> str:
    hours = "unknown GPU-hours" if totals.gpu_hours is None else f"{totals.gpu_hours:,.1f} GPU-hours"
    if totals.gpu_hours is not None and totals.evals_without_gpu_hours:
        hours += f" (unknown for {counted(totals.evals_without_gpu_hours, 'eval')})"
    return f"in all: {counted(totals.evals, 'eval')}, {counted(totals.monitor_jobs, 'monitor job')}, {hours} requested"


def print_monitor_jobs(report: MonitorJobReports) -> None:
    """Print the outcome of the monitor jobs, except refusals."""
    for kind, job in (("completion job", report.completion), ("sidecar", report.sidecar)):
        if job is not None and job.status == "running":
            click.echo(f"{kind}: already queued ({job.job_id})")
        elif job is not None and job.status != "refused":
            job_id = f" job {job.job_id}" if job.job_id else ""
            detail = f" ({printable(job.detail)})" if job.detail else ""
            click.echo(f"{kind}: {job.status}{job_id}{detail}")


def print_refused_monitor_jobs(report: MonitorJobReports) -> None:
    """Print Slurm's message about refused monitor jobs, on stderr."""
    for kind, job in (("completion job", report.completion), ("sidecar", report.sidecar)):
        if job is not None and job.status == "refused":
            words = " ".join(printable(line) for line in job.detail.splitlines())
            click.echo(f"evalmon: {kind}: refused: {words}", err=True)


def print_places(experiment: Experiment, report: MonitorJobReports) -> None:
    """Print where the log and the summary are, or will be, and the next command."""
    is_to_come = report.completion is None or report.completion.status != "not needed"
    click.echo(shown(f"log: {experiment.log}"))
    click.echo(shown(f"summary{', once all are over' if is_to_come else ''}: {experiment.summary_md}"))
    click.echo(f"to see how it goes: evalmon status {printable(shlex.quote(experiment.root))}")


def print_exposure(experiment: Experiment, settings: Settings) -> None:
    """Print on stderr what others can do to the experiment, and whether they can read its URLs, if anything."""
    for exposed in (exposure(experiment.root), readable_urls(experiment.settings, settings)):
        if exposed is not None:
            click.echo(f"evalmon: note: {printable('; '.join(exposed))}", err=True)
