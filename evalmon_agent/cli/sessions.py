"""Opens the session of a command or of a monitor job."""

from __future__ import annotations

import os

from evalmon_agent.experiment import settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.register import confirm
from evalmon_agent.session import Session
from evalmon_agent.settings import FAST_POLLING
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import own_job_id


def session_for(experiment: Experiment, *, for_reading: bool = False) -> Session:
    """The session of a command (exit status 78 if the settings cannot be used).

    `for_reading`: whether fast polling is allowed is not checked again. Another user's experiment is read with that
    user's settings.
    """
    environ = {**os.environ, FAST_POLLING: "1"} if for_reading else os.environ
    owner = experiment.owner if for_reading else None
    settings = settings_file.load(experiment.settings, environ=environ, owner=owner)
    return Session(experiment, settings, Slurm(os.environ), os.environ)


def session_of_monitor_job(
    experiment: Experiment, *, token: str | None, experiment_id: str | None
) -> tuple[Session, str]:
    """The session of a monitor job, once it is certain that the experiment is the right one.

    If the settings are invalid: with those of its submission, and why.
    """
    experiment.expect(experiment_id)
    experiment.require_monitored()
    experiment.check()
    confirm(experiment, token, own_job_id(os.environ))
    kept = experiment.kept_settings(token) if token is not None else None
    settings, unusable = settings_file.load_or_kept(experiment.settings, kept=kept, environ=os.environ)
    return Session(experiment, settings, Slurm(os.environ), os.environ), unusable
