"""`evalmon submit`: the eval scripts, registered and submitted, then the completion job and the sidecar."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.programs import output_directories
from evalmon_agent.programs.checks.exposure import refuse_world_writable
from evalmon_agent.programs.jobs import register
from evalmon_agent.programs.jobs.find_scripts import find
from evalmon_agent.programs.jobs.our_jobs import Helpers
from evalmon_agent.programs.jobs.register import Submission
from evalmon_agent.programs.observing.unlock import release_if_over
from evalmon_agent.programs.preview import preview
from evalmon_agent.programs.submitting.accompany import Mode, accompany
from evalmon_agent.programs.submitting.evals import Evals, Prepared
from evalmon_agent.programs.submitting.report import SubmitReport
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.store import registry
from evalmon_agent.store import scripts as scripts_file
from evalmon_agent.store import state as state_file
from evalmon_agent.store.experiment import Experiment, is_utf8
from evalmon_agent.submission.plan import Planned, plan
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.registry import Entry, entries
from evalmon_agent.tracking.unsubmitted import eval_name, latest
from evalmon_agent.words.eval_names import task_name

_LISTED = 5


def submit(
    experiment: Experiment,
    settings: Settings,
    slurm: Slurm,
    *,
    named: Sequence[str],
    mode: Mode,
    dry_run: bool,
    environ: Mapping[str, str],
    sleep: Callable[[float], None] = time.sleep,
) -> SubmitReport:
    """Submit what is not yet active or done; nothing is made or submitted before every check has passed."""
    planned, known = _checked(experiment, settings, slurm, named=named, environ=environ)
    report = SubmitReport()
    if not dry_run:
        experiment.prepare(group_readable=settings.group_readable)
        release_if_over(experiment, slurm)
        known = register.resolve(experiment, slurm, sleep=sleep)
    counting = latest(known)
    have = {name: e for (name, _), e in counting.items()} | {eval_name(name): e for name, e in counting.items()}
    state = state_file.load(experiment)
    new = [one for one in planned if have.keys().isdisjoint(_names(one))]
    report.skipped += [_skipped(one, have, state) for one in planned if not have.keys().isdisjoint(_names(one))]
    report.warnings = output_directories.warnings([one.script for one in new], slurm, environ)
    report.warnings += scripts_file.warnings(experiment, [one.script for one in new])
    helpers = Helpers(experiment, slurm, settings, environ)
    prepared = [_prepared(one) for one in new]
    if dry_run:
        preview(helpers, prepared, report, mode=mode)
        return report
    Evals(helpers, report, mode, sleep).submit(prepared)
    report.take(accompany(helpers, mode=mode, sidecar=report.sidecar))
    return report


def _checked(
    experiment: Experiment, settings: Settings, slurm: Slurm, *, named: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[Planned], list[Entry]]:
    """What would be submitted, and what is registered already, after all checks, in the order of the contract."""
    scripts = find(experiment, settings, named)
    for one in plan(scripts, root=experiment.root, registered=(), taken=(), environ=environ):
        if not is_utf8(one.name):
            raise UsageError(f"{one.script.path}: its --job-name is not UTF-8 and cannot be kept on record; rename it")
    experiment.check()
    refuse_world_writable(experiment, settings)
    known = entries(registry.read(experiment.registry))
    planned = plan(
        scripts,
        root=experiment.root,
        registered=_scripts(known),
        taken=_output_dirs(known, {script.path for script in scripts}),
        environ=environ,
    )
    _refuse_too_large(planned, settings)
    require_slurm(slurm)
    return planned, known


def _refuse_too_large(planned: Sequence[Planned], settings: Settings) -> None:
    """An array is submitted as one: its script may count its tasks."""
    most = settings.max_submit
    for one in planned:
        if most is not None and one.tasks is not None and len(one.tasks) > most:
            raise UsageError(
                f"{one.script.path}: an array of {len(one.tasks)} evals, and max_submit: {most} lets no more be there "
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


def _prepared(one: Planned) -> Prepared:
    return Prepared(one.script, Submission(one.name, one.script.path, one.output_dir, one.tasks))


def _names(one: Planned) -> list[str]:
    """The evals that it would be, and what they are called together."""
    return [one.name, *(task_name(one.name, task) for task in one.tasks or ())]


def _skipped(one: Planned, have: Mapping[str, Entry], state: ExperimentState | None) -> dict[str, str | None]:
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
    return {e.intent.script for e in known if e.intent.what == "eval" and e.intent.script and e.accepted}


def _output_dirs(known: Sequence[Entry], planned: set[str]) -> set[str]:
    return {
        e.intent.output_dir
        for e in known
        if e.intent.what == "eval" and e.intent.output_dir and e.accepted and e.intent.script not in planned
    }
