"""`evalmon report`: writes the summary of what is known, and prints it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import groupby

import click

from evalmon_agent.cli.options import CommandOnExperiment, json_option
from evalmon_agent.cli.output import (
    in_bold,
    interruptible,
    print_json,
    print_text,
    table_lines,
    terminal_size,
    wrapped,
)
from evalmon_agent.cli.status_view import attention, eval_table
from evalmon_agent.commands.status import exit_status, look, note_if_read_only, status
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.monitor.finalize import tell_changed_verdicts, write_summary
from evalmon_agent.monitor.measure import LOOK_AGAIN_AT_MOST_S, Measurer, look_again
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.report_page.page import write_page
from evalmon_agent.session import Session
from evalmon_agent.summary.attention import in_order, next_round, verdict_line
from evalmon_agent.summary.markdown import cost_line, render
from evalmon_agent.summary.records import Summary
from evalmon_agent.summary.results_csv import results_csv
from evalmon_agent.summary.scores import score_table
from evalmon_agent.words.durations import total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted

_EVALS_AT_MOST = 50
_ADVICE_AT_MOST = 8
_ADVICE_CHARS = 1000


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
    summary = report(Session.of_command(experiment, for_reading=True))
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


def report_text(summary: Summary, *, width: int) -> str:
    """The summary for a terminal; no name is broken. What needs a wider table stands in summary.md only."""
    done = "Monitoring is complete" if summary.complete else "Not all evals are over or measured yet"
    lines = in_bold(wrapped(verdict_line(summary), width))
    lines += wrapped(f"{done}; total time {total(summary.total_time_s)}", width)
    lines += [line for text in cost_line(summary.cost) for line in wrapped(text, width)]
    for title, section in (
        ("Needs attention", [line for item in attention(summary, width, is_brief=False) for line in item]),
        ("Scores", list(_scores(summary, width))),
        ("Evals", list(_evals(summary, width))),
        ("For the next round", list(_advice(summary, width))),
    ):
        if section:
            lines += ["", *in_bold([title]), *section]
    return "\n".join(lines)


def _evals(summary: Summary, width: int) -> Iterator[str]:
    """All, or of many only those that did not succeed, those that need attention first."""
    evals = in_order(summary.evals)
    if len(evals) > _EVALS_AT_MOST:
        evals = [ev for ev in evals if ev.verdict not in {"ok", "dropped"}][:_EVALS_AT_MOST]
    if evals:
        yield from eval_table(evals, width, is_grouped=True)
    if hidden := len(summary.evals) - len(evals):
        yield f"(+{hidden} more; evalmon status --all shows every eval)"


def _scores(summary: Summary, width: int) -> Iterator[str]:
    """A row for each run below its task and metric; where there is no room the first epochs are left out."""
    scores = score_table(summary.evals)
    if not scores.rows:
        return
    epochs = ["Score" if epoch is None else f"Epoch {epoch}" for epoch in scores.epochs]
    rows: list[list[str]] = []
    for (task, metric), members in groupby(scores.rows, key=lambda row: (row.task, row.metric)):
        rows.append([printable(f"{task}, {metric}"), *[""] * len(epochs)])
        for row in members:
            cells = [str(row.cells.get(epoch, "")) for epoch in scores.epochs]
            rows.append([printable(f"  {row.run or 'no run'}"), *cells])
    table = list(table_lines(["Task and run", *epochs], rows, width=width, optional=epochs[:-1]))
    yield from table
    if missing := sum(f"{epoch} " not in f"{table[0]} " for epoch in epochs):
        yield f"({counted(missing, 'epoch')} left out; widen the terminal, or see summary.md)"


def _advice(summary: Summary, width: int) -> Iterator[str]:
    advice = next_round(summary.evals)
    for text, names in advice[:_ADVICE_AT_MOST]:
        which = f"{len(names)} evals, such as {names[0]}" if len(names) > 1 else names[0]
        yield from wrapped(printable(f"* {which}: {text}", max_chars=_ADVICE_CHARS), width, indent="  ")
    if len(advice) > _ADVICE_AT_MOST:
        yield f"(+{len(advice) - _ADVICE_AT_MOST} more; see summary.md)"
