"""`evalmon submit`: submits and registers the eval scripts, then the completion job and the sidecar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence

import click
from msgspec.structs import replace as changed

from evalmon_agent.cli.options import experiment_argument, json_option, mode_option
from evalmon_agent.cli.sessions import session_for
from evalmon_agent.cli.submissions import print_exposure, print_submitted
from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.experiment import scripts as scripts_file
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment, is_utf8
from evalmon_agent.experiment.exposure import refuse_world_writable
from evalmon_agent.jobs import register
from evalmon_agent.jobs.claims import new_token
from evalmon_agent.jobs.eval_scripts import find
from evalmon_agent.monitor.unlock import release_if_over
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.submission.plan import Prepared, plan
from evalmon_agent.submitting.preview import output_warnings, preview
from evalmon_agent.submitting.start_monitor_jobs import Mode, start_monitor_jobs
from evalmon_agent.submitting.submit_evals import EvalSubmitter, SubmitReport
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.registry import Entry, Submission
from evalmon_agent.tracking.unsubmitted import eval_name, latest
from evalmon_agent.words.eval_names import task_name

_LISTED = 5


@click.command("submit")
@experiment_argument()
@click.argument("scripts", nargs=-1, metavar="[SCRIPT]...", type=click.Path())
@mode_option
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and what Slurm would refuse.")
@json_option
def command(experiment: Experiment, scripts: Sequence[str], mode: Mode | None, dry_run: bool, as_json: bool) -> None:
    """Submit the evals, and the jobs that watch and summarise."""
    session = session_for(experiment)
    is_first = not experiment.is_monitored()
    report = submit(session, named=scripts, mode=mode or session.settings.mode, dry_run=dry_run)
    print_submitted(report, experiment, dry_run=dry_run, as_json=as_json)
    if is_first:
        print_exposure(experiment)
    sys.exit(report.exit_status)


def submit(
    session: Session,
    *,
    named: Sequence[str],
    mode: Mode,
    dry_run: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> SubmitReport:
    """Submit what is not yet active or done; nothing is made or submitted before every check has passed."""
    experiment, settings, slurm = session.experiment, session.settings, session.slurm
    planned, known = _checked(session, named)
    report = SubmitReport()
    if not dry_run:
        experiment.prepare(group_readable=settings.group_readable)
        release_if_over(experiment, slurm)
        known = register.resolve(experiment, slurm, sleep=sleep)
    counting = latest(known)
    have = {name: e for (name, _), e in counting.items()} | {eval_name(name): e for name, e in counting.items()}
    state = state_file.load(experiment)
    new = [one for one in planned if have.keys().isdisjoint(_names(one.submission))]
    report.skipped += [
        _skipped(one.submission, have, state) for one in planned if not have.keys().isdisjoint(_names(one.submission))
    ]
    report.warnings = output_warnings([one.script for one in new], slurm, session.environ)
    report.warnings += scripts_file.warnings(experiment, [one.script for one in new])
    if dry_run:
        preview(session, new, report, mode=mode)
        return report
    EvalSubmitter(session, report, mode, sleep).submit(new)
    report.completion, report.sidecar = start_monitor_jobs(session, mode=mode, sidecar=report.sidecar)
    return report


def _checked(session: Session, named: Sequence[str]) -> tuple[list[Prepared], list[Entry]]:
    """What would be submitted, and what is registered already, after all checks, in the order of the contract."""
    experiment, settings, environ = session.experiment, session.settings, session.environ
    scripts = find(experiment, settings, named)
    for one in plan(scripts, root=experiment.root, registered=(), taken=(), environ=environ):
        if not is_utf8(one.name):
            raise UsageError(f"{one.script}: its --job-name is not UTF-8 and cannot be kept on record; rename it")
    experiment.check()
    refuse_world_writable(experiment, settings)
    known = experiment.ledger.entries()
    planned = plan(
        scripts,
        root=experiment.root,
        registered=_scripts(known),
        taken=_output_dirs(known, {script.path for script in scripts}),
        environ=environ,
    )
    _refuse_too_large(planned, settings)
    require_slurm(session.slurm)
    new = [changed(one, token=new_token()) for one in planned]
    return list(map(Prepared, scripts, new)), known


def _refuse_too_large(planned: Sequence[Submission], settings: Settings) -> None:
    """An array is submitted as one: its script may count its tasks."""
    most = settings.max_submit
    for one in planned:
        if most is not None and one.tasks is not None and len(one.tasks) > most:
            raise UsageError(
                f"{one.script}: an array of {len(one.tasks)} evals, and max_submit: {most} lets no more be there "
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


def _names(one: Submission) -> list[str]:
    """The evals that it would be, and what they are called together."""
    return [one.name, *(task_name(one.name, task) for task in one.tasks or ())]


def _skipped(one: Submission, have: Mapping[str, Entry], state: ExperimentState | None) -> dict[str, str | None]:
    """Of an array of which `watch` has only some tasks: those tasks, for the others may run unwatched."""
    names = [name for name in _names(one) if name in have]
    entry = have[names[0]]
    ev = state.evals.get(names[0]) if state is not None else None
    why = "already registered, waits for room" if entry.is_waiting else f"already registered ({_seen(ev)})"
    if one.name not in have:
        why += f", of {len(one.tasks or ())} tasks {len(names)}: {', '.join(names[:_LISTED])}; watch the others, too"
    return {"name": one.name, "job_id": entry.accepted.job_id if entry.accepted is not None else None, "why": why}


def _seen(ev: Eval | None) -> str:
    return str(ev.state) if ev is not None else "submitted"


def _scripts(known: Sequence[Entry]) -> set[str]:
    return {e.submission.script for e in known if e.is_eval and e.submission.script and e.accepted}


def _output_dirs(known: Sequence[Entry], planned: set[str]) -> set[str]:
    return {
        e.submission.output_dir
        for e in known
        if e.is_eval and e.submission.output_dir and e.accepted and e.submission.script not in planned
    }
