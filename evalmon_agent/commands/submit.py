"""`evalmon submit`: submits and registers the eval scripts, then the completion job and the sidecar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import click
from msgspec.structs import replace as changed

from evalmon_agent.cli.options import experiment_and_scripts, json_option, mode_option
from evalmon_agent.cli.sessions import session_for
from evalmon_agent.cli.submissions import print_exposure, print_submitted
from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.experiment import scripts as scripts_file
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import is_utf8
from evalmon_agent.experiment.exposure import refuse_world_writable
from evalmon_agent.jobs import register
from evalmon_agent.jobs.claims import new_token
from evalmon_agent.jobs.eval_scripts import find
from evalmon_agent.monitor.unlock import release_if_over
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.submission.plan import Prepared, Script, plan
from evalmon_agent.submission.retry_plan import array_option
from evalmon_agent.submitting.preview import output_warnings, preview
from evalmon_agent.submitting.start_monitor_jobs import Mode, start_monitor_jobs
from evalmon_agent.submitting.submit_evals import EvalSubmitter, SubmitReport
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.registry import Entry, Name, Submission
from evalmon_agent.tracking.unsubmitted import dropped, eval_name, latest
from evalmon_agent.words.eval_names import task_name
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
    session = session_for(experiment)
    is_first = not experiment.is_monitored()
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
    experiment, settings, slurm = session.experiment, session.settings, session.slurm
    prepared, entries = _checked(session, named)
    report = SubmitReport()
    if not dry_run:
        experiment.prepare(group_readable=settings.group_readable)
        release_if_over(experiment, slurm)
        entries = register.resolve(experiment, slurm, sleep=sleep)
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
            report.skipped.append({"name": item.submission.name, "job_id": None, "why": why})
        elif registered.keys().isdisjoint(_names(item.submission)):
            new.append(item)
        else:
            report.skipped.append(_skipped(item.submission, registered, state))
    submit_prepared(session, new, report, mode=mode, dry_run=dry_run, sleep=sleep)
    return report


def _brought_back(
    item: Prepared, back: Sequence[Name], counting: Mapping[Name, Entry], environ: Mapping[str, str]
) -> Prepared:
    """The submission in place of dropped evals; of an array, in which others count, their tasks only."""
    submission = item.submission
    tasks = [task for _, task in back if task is not None]
    if any(name in counting and name not in back for name in submission.names):
        spec = environ.get("SBATCH_ARRAY_INX") or item.script.head.options.get("array", "")
        submission = changed(submission, tasks=tuple(tasks), options=(array_option(tasks, spec),))
    instead_of = {name: counting[name].token for name in back if name in counting}
    return replace(item, submission=submission, why="it was dropped", instead_of=instead_of)


def submit_prepared(
    session: Session,
    prepared: Sequence[Prepared],
    report: SubmitReport,
    *,
    mode: Mode,
    dry_run: bool,
    sleep: Callable[[float], object],
) -> None:
    """Submit these evals and the monitor jobs, or preview that, and add it to the report with the warnings."""
    scripts = [item.script for item in prepared]
    report.warnings = output_warnings(scripts, session.slurm, session.environ)
    report.warnings += scripts_file.warnings(session.experiment, scripts)
    if dry_run:
        preview(session, prepared, report, mode=mode)
        return
    EvalSubmitter(session, report, mode, sleep).submit(prepared)
    report.completion, report.sidecar = start_monitor_jobs(session, mode=mode, sidecar=report.sidecar)


def _checked(session: Session, named: Sequence[str]) -> tuple[list[Prepared], list[Entry]]:
    """What would be submitted, and what is registered already, after all checks: input (2), then Slurm (69)."""
    experiment, settings, environ = session.experiment, session.settings, session.environ
    scripts = find(experiment, settings, named)
    for submission in plan(scripts, root=experiment.root, registered=(), taken=(), environ=environ):
        if not is_utf8(submission.name):
            raise UsageError(f"{submission.script}: its --job-name is not UTF-8 and cannot be recorded; rename it")
    experiment.check()
    refuse_world_writable(experiment, settings)
    entries = experiment.ledger.entries()
    prepared = prepare_scripts(session, scripts, entries)
    require_slurm(session.slurm)
    return prepared, entries


def prepare_scripts(session: Session, scripts: Sequence[Script], entries: Sequence[Entry]) -> list[Prepared]:
    """The submissions of these scripts, beside what the registry has already. UsageError if they do not fit."""
    planned = plan(
        scripts,
        root=session.experiment.root,
        registered=_scripts(entries),
        taken=_output_dirs(entries, {script.path for script in scripts}),
        environ=session.environ,
    )
    _refuse_too_large(planned, session.settings)
    submissions = [changed(submission, token=new_token()) for submission in planned]
    return list(map(Prepared, scripts, submissions))


def _refuse_too_large(planned: Sequence[Submission], settings: Settings) -> None:
    """Refuse an array above `max_submit`: it is submitted as a whole, since its script may count its tasks."""
    most = settings.max_submit
    for submission in planned:
        count = len(submission.tasks or ())
        if most is not None and count > most:
            raise UsageError(
                f"{submission.script}: an array of {count} evals, and max_submit: {most} lets no more be there "
                f"at once; make it smaller arrays, or raise max_submit"
            )


def require_slurm(slurm: Slurm) -> None:
    """SlurmUnavailableError (69) unless sbatch and squeue are here and the controller answers."""
    for program in ("sbatch", "squeue"):
        if not slurm.has(program):
            raise SlurmUnavailableError(
                f"{program} is not on PATH; run evalmon on a login node (or load the slurm module)"
            )
    answer = slurm.queue()
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(f"Slurm does not answer: {answer.line}; nothing was submitted, try again later")


def _names(submission: Submission) -> list[str]:
    """The names of its evals, and of the array as a whole."""
    return [submission.name, *(task_name(submission.name, task) for task in submission.tasks or ())]


def _skipped(
    submission: Submission, registered: Mapping[str, Entry], state: ExperimentState | None
) -> dict[str, str | None]:
    """Why a script is skipped. If `watch` adopted only some tasks of its array, those are named."""
    names = [name for name in _names(submission) if name in registered]
    entry = registered[names[0]]
    ev = state.evals.get(names[0]) if state is not None else None
    why = "already registered, waiting to be submitted" if entry.is_waiting else f"already registered ({_state(ev)})"
    if submission.name not in registered:
        count, listed = len(submission.tasks or ()), ", ".join(names[:_LISTED])
        why += f", of {counted(count, 'task')} {len(names)}: {listed}; watch the others, too"
    job_id = entry.accepted.job_id if entry.accepted is not None else None
    return {"name": submission.name, "job_id": job_id, "why": why}


def _state(ev: Eval | None) -> str:
    return str(ev.state) if ev is not None else "submitted"


def _scripts(entries: Sequence[Entry]) -> set[str]:
    return {e.submission.script for e in entries if e.is_eval and e.submission.script and e.accepted}


def _output_dirs(entries: Sequence[Entry], planned: set[str]) -> set[str]:
    return {
        e.submission.output_dir
        for e in entries
        if e.is_eval and e.submission.output_dir and e.accepted and e.submission.script not in planned
    }
