"""`evalmon report`: writes the summary of what is known, and prints it."""

from __future__ import annotations

import sys
import time

import click

from evalmon_agent.cli.options import CommandOnExperiment, json_option
from evalmon_agent.cli.output import interruptible, print_json, print_text, terminal_size
from evalmon_agent.cli.report_view import report_text
from evalmon_agent.cli.sessions import session_for
from evalmon_agent.commands.status import exit_status, look, note_if_read_only, status
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.monitor.finalize import tell_changed_verdicts, write_summary
from evalmon_agent.monitor.measure import LOOK_AGAIN_AT_MOST_S, Measurer, look_again
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.report_page.page import write_page
from evalmon_agent.session import Session
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import Summary
from evalmon_agent.summary.results_csv import results_csv
from evalmon_agent.words.printable import printable


@click.command("report", cls=CommandOnExperiment)
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "csv", "json"]),
    default="md",
    help="What to print; csv has one row for each result.",
)
@json_option
def command(experiment: Experiment, form: str, as_json: bool) -> None:
    """Write the summary of what is known, and print it."""
    summary = report(session_for(experiment, for_reading=True))
    if as_json or form == "json":
        print_json(summary)
    elif form == "csv":
        click.echo(results_csv(summary), nl=False)
    else:
        size = terminal_size()
        print_text(report_text(summary, width=size.columns) if size is not None else render(summary).rstrip("\n"))
    if experiment.may_be_written:
        paths = {"summary": experiment.summary_md, "page": experiment.report_html}
        for what, path in paths.items():
            click.echo(printable(shown(f"{what}: {path}")), err=True)
    note_if_read_only(experiment)
    sys.exit(exit_status(summary))


def report(session: Session) -> Summary:
    """Write summary.json, summary.md and report.html; do the completion job's work if there is none.

    Missing results are looked for again; a verdict that changes by that is logged. Where this user may only read,
    nothing of that is done.
    """
    session.experiment.require_monitored()
    if not session.experiment.may_be_written:
        return status(session)
    session.experiment.check()
    observer = Observer(session, role="command")
    with interruptible("the summary is as it was; run evalmon report again"):
        measurer = Measurer(session=session, retry_delay_s=0.0)
        state = look_again(observer, measurer, look(observer), deadline=time.monotonic() + LOOK_AGAIN_AT_MOST_S)
        state = tell_changed_verdicts(observer, state)
        summary = write_summary(observer, state)
    with interruptible("summary.md is written, report.html is not; run evalmon report again"):
        write_page(session.experiment, summary, environ=session.environ, mode=observer.mode)
    return summary
