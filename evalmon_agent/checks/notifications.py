"""Checks whether notifications can be sent: Apprise, who can read the URLs, what could not be sent."""

from __future__ import annotations

from importlib.util import find_spec

from evalmon_agent.checks.finding import Finding, ok, warning
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.exposure import readable_urls
from evalmon_agent.notify.deliver import INSTALL, NOT_INSTALLED, what_to_do
from evalmon_agent.notify.journal import Journal, targets_of
from evalmon_agent.settings import Settings

_CHECK = "notifications"


def check_notifications(experiment: Experiment, settings: Settings) -> list[Finding]:
    """Nothing where nobody is to be notified."""
    targets = targets_of(settings)
    if not targets:
        return []
    findings = []
    if settings.notify and find_spec("apprise") is None:
        findings.append(warning(_CHECK, f"{NOT_INSTALLED}; the URLs of notify get nothing", f"run: {INSTALL}"))
    readable = readable_urls(experiment, settings)
    if readable is not None:
        findings.append(warning(_CHECK, *readable))
    if experiment.is_ours:
        journal = Journal(experiment).read()
        for target in targets:
            why, number = journal.failing([target]).get(target.label), len(journal.waiting(target))
            if why is not None and number:
                line = f"{target.label}: {number} notification{'s' * (number != 1)} not sent yet: {why}"
                findings.append(warning(_CHECK, line, what_to_do(why)))
    names = ", ".join(target.label for target in targets)
    return findings or [ok(_CHECK, f"{names}; to send a test: evalmon notify {experiment.root} --test")]
