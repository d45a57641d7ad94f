"""`evalmon report`: writes the summary of what is known, and prints it."""

from __future__ import annotations

import sys

import click

from evalmon_agent.cli.options import experiment_argument, json_option
from evalmon_agent.cli.output import print_json
from evalmon_agent.cli.sessions import session_for
from evalmon_agent.commands.status import exit_status, look
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.monitor.finalize import write_summary
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import Summary


@click.command("report")
@experiment_argument()
@json_option
def command(experiment: Experiment, as_json: bool) -> None:
    """Write the summary of what is known, and print it."""
    summary = report(session_for(experiment, for_reading=True))
    if as_json:
        print_json(summary)
    else:
        click.echo(render(summary), nl=False)
    sys.exit(exit_status(summary))


def report(session: Session) -> Summary:
    """Write summary.json and summary.md anew; finish the job of a completion job that is not there."""
    session.experiment.require_monitored()
    session.experiment.check()
    observer = Observer(session, role="command")
    return write_summary(session.experiment, look(observer), observer=observer)
