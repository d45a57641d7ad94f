"""`evalmon submit`: submits and registers the eval scripts, then the completion job and the sidecar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import click
from msgspec.structs import replace as changed

from evalmon_agent.cli.options import experiment_and_scripts, json_option, mode_option
from evalmon_agent.cli.output import interruptible
from evalmon_agent.cli.submissions import print_exposure, print_submitted
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.settings_file import refuse_world_writable
from evalmon_agent.jobs.eval_scripts import find
from evalmon_agent.session import Session
from evalmon_agent.submission.plan import Prepared, array_option, array_spec, plan
from evalmon_agent.submitting.prepare import prepare_scripts, require_slurm, resolve, submit_prepared
from evalmon_agent.submitting.submit_evals import Mode, SubmitReport
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry, Name, Submission, dropped, eval_name, latest
from evalmon_agent.words.sizes import counted

_LISTED = 5


@click.command("submit")
@click.argument("words", nargs=-1, metavar="[EXP] [SCRIPT]...", type=click.Path())
@mode_option
@click.option("--dry-run", is_flag=True, help="Show what would be submitted and what Slurm would refuse.")
@json_option
def command(words: Sequence[str], mode: Mode | None, dry_run: bool, as_json: bool) -> None:
    """Submit evals, and the jobs that watch and summarise them."""
    experiment, scripts = experiment_and_scripts(words)
    session = Session.of_command(experiment)
    is_first = not experiment.is_monitored()
    with interruptible("nothing was submitted"):
        report = submit(session, named=scripts, mode=mode or session.settings.mode, dry_run=dry_run)
    print_submitted(report, experiment, dry_run=dry_run, as_json=as_json)
    if is_first:
        print_exposure(experiment, session.settings)
    sys.exit(report.exit_status)


def submit(
    session: Session,
    *,
    named: Sequence[str],
    mode: Mode,
    dry_run: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> SubmitReport:
    """Submit the evals that are not registered yet; creates and submits nothing before every check has passed."""
    experiment, settings = session.experiment, session.settings
    prepared, entries = _checked(session, named)
    report = SubmitReport()
    if not dry_run:
        experiment.prepare(group_readable=settings.group_readable)
        entries = resolve(session, sleep=sleep)
    counting = latest(entries)
    registered = {name: entry for (name, _), entry in counting.items()}
    registered |= {eval_name(name): entry for name, entry in counting.items()}
    state = state_file.load(experiment)
    drops = dropped(entries)
    new: list[Prepared] = []
    for item in prepared:
        back = [name for name in item.submission.names if eval_name(name) in drops]
        if back and named:
            new.append(_brought_back(item, back, counting, session.environ))
        elif back:
            why = "dropped; to bring it back, name its script: evalmon submit EXP SCRIPT"
            report.skip(item.submission.name, why)
        elif registered.keys().isdisjoint((item.submission.name, *item.submission.eval_names)):
            new.append(item)
        else:
            _skip(report, item.submission, registered, state)
    submit_prepared(session, new, report, mode=mode, dry_run=dry_run, sleep=sleep)
    return report


def _brought_back(
    item: Prepared, back: Sequence[Name], counting: Mapping[Name, Entry], environ: Mapping[str, str]
) -> Prepared:
    """The submission in place of dropped evals; of an array, in which others count, their tasks only."""
    submission = item.submission
    tasks = [task for _, task in back if task is not None]
    if any(name in counting and name not in back for name in submission.names):
        option = array_option(tasks, array_spec(item.script, environ))
        submission = changed(submission, tasks=tuple(tasks), options=(option,))
    instead_of = {name: counting[name].token for name in back if name in counting}
    return replace(item, submission=submission, why="it was dropped", instead_of=instead_of)


def _checked(session: Session, named: Sequence[str]) -> tuple[list[Prepared], list[Entry]]:
    """What would be submitted, and what is registered already, after all checks: input (2), then Slurm (69)."""
    experiment, settings = session.experiment, session.settings
    scripts = find(experiment, settings, named)
    plan(scripts, root=experiment.root, registered=(), taken=(), environ=session.environ)
    experiment.check()
    refuse_world_writable(experiment, settings)
    entries = experiment.ledger.entries()
    prepared = prepare_scripts(session, scripts, entries)
    require_slurm(session.slurm)
    return prepared, entries


def _skip(
    report: SubmitReport, submission: Submission, registered: Mapping[str, Entry], state: ExperimentState | None
) -> None:
    """Report that its evals are registered. If `watch` adopted only some tasks of its array, those are named."""
    names = [name for name in (submission.name, *submission.eval_names) if name in registered]
    entry = registered[names[0]]
    ev = state.evals.get(names[0]) if state is not None else None
    stands = f" ({ev.state if ev is not None else 'submitted'})"
    why = "already registered" + (", waiting to be submitted" if entry.is_waiting else stands)
    count = len(submission.tasks or ())
    if submission.name not in registered and len(names) < count:
        listed = ", ".join(names[:_LISTED])
        why += f", of {counted(count, 'task')} {len(names)}: {listed}; watch the others, too"
    report.skip(submission.name, why, entry.accepted.job_id if entry.accepted is not None else None)
