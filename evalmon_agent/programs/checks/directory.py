"""Is EXP/evalmon ours alone to write, or can it be made?"""

from __future__ import annotations

import os
import stat

from evalmon_agent.errors import UsageError
from evalmon_agent.files.ownership import user_name
from evalmon_agent.programs.checks.finding import Finding, ok, problem, warning
from evalmon_agent.store.experiment import Experiment

_CHECK = "directory"


def check(experiment: Experiment) -> list[Finding]:
    """Owner, mode, and whether we may write there."""
    directory = experiment.directory
    if not experiment.is_ours:
        whose = user_name(experiment.owner or 0)
        readable = os.access(directory, os.R_OK | os.X_OK)
        may = "you may read it: evalmon status" if readable else "you may not read it"
        return [warning(_CHECK, f"{directory} belongs to {whose}; {may}", "to submit, use an experiment of your own")]
    try:
        experiment.check()
    except UsageError as error:
        line, _, advice = str(error).partition("; ")
        return [problem(_CHECK, line, advice, exit_status=error.exit_status)]
    if not os.path.lexists(directory):
        return [ok(_CHECK, f"{directory} is not there yet and can be made")]
    mode = stat.S_IMODE(os.lstat(directory).st_mode)
    return [ok(_CHECK, f"{directory} is yours alone to write (mode {mode:04o})")]
