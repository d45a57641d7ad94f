"""Prepares the submissions of scripts, and submits them with the monitor jobs, or previews that."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from evalmon_agent.errors import SlurmUnavailableError, StoppedError, UsageError
from evalmon_agent.experiment import scripts as scripts_file
from evalmon_agent.experiment.experiment_lock import release_if_over
from evalmon_agent.experiment.settings_file import refuse_world_writable
from evalmon_agent.jobs import register
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.submission.plan import Prepared, Script, plan
from evalmon_agent.submitting.preview import output_warnings, preview
from evalmon_agent.submitting.submit_evals import EvalSubmitter, Mode, SubmitReport, start_monitor_jobs
from evalmon_agent.tracking.registry import Entry, Submission, waiting
from evalmon_agent.words.sizes import counted


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


def check(session: Session) -> None:
    """What must hold before anything is submitted. UsageError, or UnsafeDirectoryError (77); then as require_slurm."""
    session.experiment.check()
    refuse_world_writable(session.experiment, session.settings)
    require_slurm(session.slurm)


def require_scancel(session: Session) -> None:
    """UsageError unless this user monitors the experiment; SlurmUnavailableError (69) without scancel."""
    session.experiment.require_monitored()
    session.experiment.check()
    if not session.slurm.has("scancel"):
        raise SlurmUnavailableError("scancel is not on PATH; run evalmon on a host with Slurm's commands")


def resolve(session: Session, *, sleep: Callable[[float], object] = time.sleep) -> list[Entry]:
    """All entries, once the lock of a dead monitor job is released, and interrupted submissions are looked for."""
    release_if_over(session.experiment, session.slurm)
    return register.resolve(session, sleep=sleep)


def prepare_scripts(session: Session, scripts: Sequence[Script], entries: Sequence[Entry]) -> list[Prepared]:
    """The submissions of these scripts, beside what the registry has already. UsageError if they do not fit."""
    paths = {script.path for script in scripts}
    accepted = [entry.submission for entry in entries if entry.is_eval and entry.accepted is not None]
    planned = plan(
        scripts,
        root=session.experiment.root,
        registered={other.script for other in accepted if other.script},
        taken={other.output_dir for other in accepted if other.output_dir and other.script not in paths},
        environ=session.environ,
    )
    _refuse_too_large(planned, session.settings)
    submissions = [replace(submission, token=register.new_token()) for submission in planned]
    return list(map(Prepared, scripts, submissions))


def submit_prepared(
    session: Session,
    prepared: Sequence[Prepared],
    report: SubmitReport,
    *,
    mode: Mode,
    dry_run: bool,
    sleep: Callable[[float], object],
) -> None:
    """Submit these evals and the monitor jobs, or preview that, and add it to the report with the warnings.

    Raises:
        StoppedError: Ctrl-C, with what is submitted and what is not.
    """
    scripts = [item.script for item in prepared]
    report.warnings = output_warnings(scripts, session.slurm, session.environ)
    report.warnings += scripts_file.warnings(session.experiment, scripts)
    if dry_run:
        preview(session, prepared, report, mode=mode)
        return
    submissions = [item.submission for item in prepared]
    submissions += [entry.submission for entry in waiting(session.experiment.ledger.entries())]
    try:
        EvalSubmitter(session, report, mode, sleep).submit(prepared)
        start_monitor_jobs(session, report, mode=mode)
    except KeyboardInterrupt:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C shall not replace what is true
        try:
            raise StoppedError(f"interrupted: {_so_far(session, submissions)}") from None
        finally:
            signal.signal(signal.SIGINT, handler)


def _so_far(session: Session, submissions: Sequence[Submission]) -> str:
    """What an interrupted command has submitted by the records, and what to do about the rest."""
    index = session.experiment.ledger.index()
    entries = [entry for item in submissions if (entry := index.of_token(item.token)) is not None]
    total = sum(item.size for item in submissions)
    submitted = sum(entry.submission.size for entry in entries if entry.accepted is not None)
    left = sum(entry.submission.size for entry in entries if entry.is_waiting)
    doubtful = [entry.submission.name for entry in entries if entry.is_open and not entry.is_waiting]
    if submitted == total:
        return f"{counted(total, 'eval')} submitted; run the same command again for the monitor jobs"
    if not (submitted or left or doubtful):
        return "nothing was submitted"
    parts = [f"{submitted} of {counted(total, 'eval')} submitted"]
    parts += [f"perhaps also {name}" for name in doubtful]
    parts += [f"{left} wait to be submitted"] * bool(left)
    return f"{', '.join(parts)}; run the same command again to submit the rest"


def _refuse_too_large(planned: Sequence[Submission], settings: Settings) -> None:
    """Refuse an array above `max_submit`: it is submitted as a whole, since its script may count its tasks."""
    most = settings.max_submit
    for submission in planned:
        count = len(submission.tasks or ())
        if most is not None and count > most:
            raise UsageError(
                f"{submission.script}: an array of {count} evals, more than max_submit: {most} allows "
                f"at once; split the array, or raise max_submit"
            )
