"""Jobs whose launcher others could exchange while sbatch read it: submitted held, looked at, released or cancelled.

A script that asks Slurm for its own path has its launcher in EXP/evalmon, and sbatch opens that by its path. What Slurm
has spooled nobody can change any more.
"""

from __future__ import annotations

from evalmon_agent.errors import SlurmUnavailableError
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.ownership import exposed
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure, Kind
from evalmon_agent.words.job_id import JobId


def is_needed(experiment: Experiment, launcher: str) -> bool:
    """Whether the launcher at this path is to be submitted held."""
    return scripts.is_by_path(launcher) and next(exposed(experiment.root), None) is not None


def let_go(slurm: Slurm, job_id: JobId, launcher: bytes, *, stays_held: bool) -> str:
    """Release the job if Slurm has spooled this launcher, else cancel it; returns why it was cancelled, or "".

    `stays_held`: the user wants it held.

    Raises:
        SlurmUnavailableError: Slurm does not answer; the job is held still.
    """
    spooled = slurm.batch_script(job_id)
    if isinstance(spooled, Failure):
        _give_up_for_now(job_id, spooled)
        why = f"Slurm does not show its script ({spooled.line})"
    elif spooled.rstrip("\n") == launcher.decode(errors="replace").rstrip("\n"):
        failure = None if stays_held else slurm.release(job_id)
        if failure is None:
            return ""
        _give_up_for_now(job_id, failure)
        why = f"it cannot be released ({failure.line})"
    else:
        why = "somebody exchanged its script while sbatch read it"
    slurm.cancel([job_id])
    return f"job {job_id} was cancelled before it ran: {why}"


def _give_up_for_now(job_id: JobId, failure: Failure) -> None:
    if failure.kind is Kind.NO_NEWS:
        raise SlurmUnavailableError(f"job {job_id} is held until its script has been looked at ({failure.line})")
