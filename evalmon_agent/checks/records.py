"""Is everything that the experiment's files hold readable; what did kills and damage leave?"""

from __future__ import annotations

import os

from evalmon_agent.checks.finding import Finding, ok, warning
from evalmon_agent.experiment import reports
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment

_CHECK = "records"


def check(experiment: Experiment) -> list[Finding]:
    """Torn lines, reports that are none, states that were set aside. UnreadableError (78): a newer evalmon's."""
    if not os.path.isdir(experiment.directory) or not experiment.is_ours or not experiment.is_monitored():
        return []
    state_file.load(experiment)
    torn = experiment.ledger.torn_lines()
    unread = reports.unread(experiment.jobs)
    aside = [name for name in os.listdir(experiment.by_descriptor) if name.startswith("state.json.corrupt-")]
    found = []
    if torn:
        line = f"{torn} {_lines(torn)} of {experiment.registry} cannot be read"
        found.append(warning(_CHECK, line, "a kill in the middle of a write leaves such a one; nothing is to be done"))
    if unread:
        line = f"{len(unread)} in {experiment.jobs} cannot be used: {', '.join(unread[:3])}"
        found.append(warning(_CHECK, line, "they are passed over; Slurm's word decides about those jobs"))
    if aside:
        line = f"a state was set aside {len(aside)} times: {', '.join(sorted(aside)[:3])}"
        found.append(warning(_CHECK, line, "it was rebuilt; if that happens again, mind the disk; remove them"))
    return found or [ok(_CHECK, "all of them can be read")]


def _lines(number: int) -> str:
    return "line" if number == 1 else "lines"
