"""Which commands are there: their words and options (contract, section 3)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Literal

import click

from evalmon_agent import __version__
from evalmon_agent.cli import show
from evalmon_agent.cli.wiring import (
    Group,
    experiment_argument,
    json_option,
    load_settings,
    options_of_our_job,
    settings_of_our_job,
)
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.words.printable import printable

# ruff: noqa: PLC0415 - each command imports only the program it runs: `--help` and completion stay fast


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evalmon")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
def main() -> None:
    """The monitor for Slurm evaluation jobs. EXP is the directory of one study's evaluations."""


@main.command()
@experiment_argument()
@click.argument("scripts", nargs=-1, metavar="[SCRIPT]...", type=click.Path())
@click.option("--mode", type=click.Choice(["sidecar", "dependency"]), help="With or without a live sidecar job.")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and what Slurm would refuse.")
@json_option
def submit(
    experiment: Experiment,
    scripts: Sequence[str],
    mode: Literal["sidecar", "dependency"] | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Submit the evals, and the jobs that watch and summarise."""
    from evalmon_agent.commands.submit import submit as program

    settings = load_settings(experiment)
    is_first = not experiment.is_monitored()
    report = program(
        experiment,
        settings,
        Slurm(os.environ),
        named=scripts,
        mode=mode or settings.mode,
        dry_run=dry_run,
        environ=os.environ,
    )
    show.submitted(report, experiment, dry_run=dry_run, as_json=as_json)
    if is_first:
        show.exposed(experiment)
    sys.exit(report.exit_status)


@main.command()
@experiment_argument()
@click.argument("jobs", nargs=-1, metavar="[[NAME=]JOBID]...")
@click.option("--match", metavar="PATTERN", help="All your jobs in the queue with such a name, as 'eval_*'.")
@click.option("--mode", type=click.Choice(["sidecar", "dependency"]), help="With or without a live sidecar job.")
@click.option("--dry-run", is_flag=True, help="Show what would be watched.")
@json_option
def watch(
    experiment: Experiment,
    jobs: Sequence[str],
    match: str | None,
    mode: Literal["sidecar", "dependency"] | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Watch jobs that were submitted otherwise.

    An array's id means all its tasks.
    """
    from evalmon_agent.commands.watch import watch as program
    from evalmon_agent.submission.adoption import parse_wanted

    if not jobs and match is None:
        raise click.UsageError("Which jobs? Give their ids, or --match PATTERN.")
    wanted = parse_wanted(jobs)
    settings = load_settings(experiment)
    is_first = not experiment.is_monitored()
    report = program(
        experiment,
        settings,
        Slurm(os.environ),
        wanted=wanted,
        match=match,
        mode=mode or settings.mode,
        dry_run=dry_run,
        environ=os.environ,
    )
    show.watched(report, experiment, dry_run=dry_run, as_json=as_json)
    if is_first:
        show.exposed(experiment)
    sys.exit(report.exit_status)


@main.command()
@experiment_argument()
@click.option("--name", "names", multiple=True, metavar="NAME", help="Only this eval, array or pattern; repeatable.")
@click.option("--failed", is_flag=True, help="Only what failed, not what is suspect.")
@click.option("--changed", is_flag=True, help="Take the scripts as they are now, not as they were submitted.")
@click.option("--scale-time", type=click.FloatRange(1, 100), default=1.5, help="For TIMEOUT (default: 1.5).")
@click.option("--scale-mem", type=click.FloatRange(1, 100), default=1.5, help="For OUT_OF_MEMORY (default: 1.5).")
@click.option("--max-retries", type=click.IntRange(1), default=3, help="Of each eval, in all (default: 3).")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and why.")
@json_option
def retry(
    experiment: Experiment,
    names: Sequence[str],
    failed: bool,
    changed: bool,
    scale_time: float,
    scale_mem: float,
    max_retries: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Submit again what did not succeed, with more of what it lacked."""
    from evalmon_agent.commands.retry import More
    from evalmon_agent.commands.retry import retry as program
    from evalmon_agent.jobs.our_jobs import Helpers
    from evalmon_agent.submission.retry_plan import Asked

    settings = load_settings(experiment)
    report = program(
        Helpers(experiment, Slurm(os.environ), settings, os.environ),
        Asked(names, failed_only=failed, changed=changed, max_retries=max_retries),
        More(scale_time, scale_mem),
        mode=settings.mode,
        dry_run=dry_run,
    )
    if not as_json and not (report.submitted or report.waiting or report.refused):
        click.echo("nothing to run again")
    show.submitted(report, experiment, dry_run=dry_run, as_json=as_json)
    sys.exit(report.exit_status)


@main.command()
@experiment_argument()
@click.option("--watch", is_flag=True, help="Show it again and again until all evals are over.")
@json_option
def status(experiment: Experiment, watch: bool, as_json: bool) -> None:
    """Show a table of all evals."""
    from evalmon_agent.commands.status import exit_status
    from evalmon_agent.commands.status import status as program

    settings = load_settings(experiment, for_reading=True)
    slurm = Slurm(os.environ)
    if watch and not as_json:
        summary = show.watch(lambda: program(experiment, settings, slurm), every_s=settings.poll_interval)
    else:
        summary = program(experiment, settings, slurm)
        show.status(summary, as_json=as_json)
    sys.exit(exit_status(summary))


@main.command()
@experiment_argument()
@json_option
def report(experiment: Experiment, as_json: bool) -> None:
    """Write the summary of what is known, and print it."""
    from evalmon_agent.commands.status import exit_status
    from evalmon_agent.commands.status import report as program

    summary = program(experiment, load_settings(experiment, for_reading=True), Slurm(os.environ))
    show.report(summary, as_json=as_json)
    sys.exit(exit_status(summary))


@main.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOBID...")
@json_option
def metrics(jobs: Sequence[str], as_json: bool) -> None:
    """Show the efficiency figures of finished jobs."""
    from evalmon_agent.commands.metrics import metrics as program
    from evalmon_agent.commands.metrics import parse_ids

    found = program(Slurm(os.environ), parse_ids(jobs))
    show.metrics(found, as_json=as_json)
    sys.exit(int(any(one.state is None for one in found)))


@main.command()
@experiment_argument()
def stop(experiment: Experiment) -> None:
    """End the monitoring; eval jobs go on."""
    from evalmon_agent.commands.stop import stop as program

    ended, left = program(experiment, load_settings(experiment, for_reading=True), Slurm(os.environ))
    click.echo(f"monitoring ended: {' '.join(ended) or 'no jobs of ours were there'}; the eval jobs go on")
    if left:
        click.echo(f"not submitted, and no longer waiting: {' '.join(map(printable, left))}")


@main.command()
@experiment_argument(required=False)
@json_option
def doctor(experiment: Experiment | None, as_json: bool) -> None:
    """Check the cluster and the file system, and say what to do."""
    from evalmon_agent.commands.doctor import doctor as program
    from evalmon_agent.commands.doctor import exit_status

    found = program(experiment, Slurm(os.environ), environ=os.environ)
    show.findings(found, as_json=as_json)
    sys.exit(exit_status(found))


def _template_names(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from evalmon_agent.commands.templates import names

    return [name for name in names() if name.startswith(incomplete)]


@main.command()
@click.argument("name", required=False, shell_complete=_template_names)
def template(name: str | None) -> None:
    """Print a packaged sbatch template; without NAME, list them."""
    from evalmon_agent.commands.templates import names, text

    click.echo("\n".join(names()) if name is None else text(name), nl=name is None)


@main.command()
@experiment_argument()
@options_of_our_job
def sidecar(experiment: Experiment, token: str | None, experiment_id: str | None) -> None:
    """Watch the evals live (the body of the sidecar job)."""
    from evalmon_agent.commands.sidecar import Sidecar
    from evalmon_agent.jobs.register import confirm

    experiment.expect(experiment_id)
    experiment.require_monitored()
    experiment.check()
    confirm(experiment, token, own_job_id(os.environ))
    settings, unusable = settings_of_our_job(experiment, token)
    Sidecar(experiment, settings, Slurm(os.environ), environ=os.environ, unusable=unusable).run()


@main.command()
@experiment_argument()
@options_of_our_job
def complete(experiment: Experiment, token: str | None, experiment_id: str | None) -> None:
    """Measure and summarise (the body of the completion job)."""
    from evalmon_agent.commands.complete import complete as program
    from evalmon_agent.jobs.register import confirm
    from evalmon_agent.monitor.stop_signals import StopSignals

    experiment.expect(experiment_id)
    experiment.require_monitored()
    experiment.check()
    confirm(experiment, token, own_job_id(os.environ))
    stop = StopSignals()
    stop.take()
    slurm = Slurm(os.environ, stopped=stop.is_set)
    settings, unusable = settings_of_our_job(experiment, token)
    program(experiment, settings, slurm, environ=os.environ, sleep=stop.pause, unusable=unusable)


@main.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
def run() -> None:
    """Inside a job: run a command monitored, and end as it ended."""


@main.command(add_help_option=False)
def sample() -> None:
    """Inside a job: sample GPUs and host, without running anything."""


@main.command(add_help_option=False)
def hook() -> None:
    """Print the line for scripts that monitor themselves."""
