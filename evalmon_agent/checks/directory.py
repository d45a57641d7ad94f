"""Is EXP/evalmon ours alone to write, or can it be made, and can others replace it?"""

from __future__ import annotations

import os
import stat

from evalmon_agent.checks.finding import Finding, ok, problem, warning
from evalmon_agent.errors import UnsafeDirectoryError, UsageError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.exposure import exposure, refuse_world_writable
from evalmon_agent.files.permissions import user_name
from evalmon_agent.settings import Settings

_CHECK = "directory"


def check(experiment: Experiment, settings: Settings) -> list[Finding]:
    """Owner, mode, whether we may write there, and who else may write above it."""
    return [_own(experiment), *(_above(experiment, settings) if experiment.is_ours else ())]


def _above(experiment: Experiment, settings: Settings) -> list[Finding]:
    try:
        refuse_world_writable(experiment, settings)
    except UnsafeDirectoryError as error:
        line, _, advice = str(error).partition("; ")
        return [problem(_CHECK, line, advice, exit_status=error.exit_status)]
    found = exposure(experiment)
    return [] if found is None else [warning(_CHECK, *found)]


def _own(experiment: Experiment) -> Finding:
    directory = experiment.directory
    if not experiment.is_ours:
        whose = user_name(experiment.owner or 0)
        readable = os.access(directory, os.R_OK | os.X_OK)
        may = "you may read it: evalmon status" if readable else "you may not read it"
        return warning(_CHECK, f"{directory} belongs to {whose}; {may}", "to submit, use an experiment of your own")
    try:
        experiment.check()
    except UsageError as error:
        line, _, advice = str(error).partition("; ")
        return problem(_CHECK, line, advice, exit_status=error.exit_status)
    if not os.path.lexists(directory):
        return ok(_CHECK, f"{directory} is not there yet and can be made")
    mode = stat.S_IMODE(os.lstat(directory).st_mode)
    return ok(_CHECK, f"{directory} is yours alone to write (mode {mode:04o})")
