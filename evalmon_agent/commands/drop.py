"""`evalmon drop`: gives evals up; they stay in the summary with the verdict `dropped`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import click

from evalmon_agent.cli.options import CommandOnExperiment, names_argument
from evalmon_agent.commands.status import look
from evalmon_agent.errors import UsageError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs import register
from evalmon_agent.monitor.finish import tell_changed_verdicts, write_summary
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.words.eval_names import named_evals
from evalmon_agent.words.printable import printable


@click.command("drop", cls=CommandOnExperiment)
@names_argument()
def command(experiment: Experiment, names: Sequence[str]) -> None:
    """Give evals up: they are no longer counted, retried or waited for.

    To bring one back, name its script: evalmon submit EXP SCRIPT.
    """
    dropped = drop(Session.of_command(experiment, for_reading=True), names)
    for name in dropped:
        click.echo(f"dropped {printable(name)}")
    if not dropped:
        click.echo("nothing to drop: dropped already")
    elif os.path.exists(experiment.report_html):
        update = f"evalmon report {shlex.quote(experiment.root)}"
        click.echo(printable(f"note: report.html does not show this yet; to update it: {update}"), err=True)


def drop(session: Session, patterns: Sequence[str]) -> list[str]:
    """Drop the named evals; returns those that were not dropped before. UsageError if one is active."""
    experiment = session.experiment
    experiment.require_monitored()
    experiment.check()
    observer = Observer(session, role="command")
    state = look(observer)
    names = [
        name for name in named_evals(patterns, state.names, experiment=experiment.root) if name not in state.dropped
    ]
    active = [name for name in names if name in state.waiting or (name in state.evals and not state.evals[name].final)]
    if active:
        what = "is waiting to be submitted" if active[0] in state.waiting else f"is {state.evals[active[0]].state}"
        more = f" (and {len(active) - 1} more are active)" if len(active) > 1 else ""
        raise UsageError(f"{active[0]} {what}{more}; end it first: evalmon cancel {experiment.root} {active[0]}")
    if names:
        register.drop(experiment, names)
        state = tell_changed_verdicts(observer, observer.record())
        if state.is_complete:
            write_summary(observer, state)
    return names
