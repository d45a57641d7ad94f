"""How are the answers shown: text for people, JSON for programs; outside text is made printable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click
import msgspec
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evalmon_agent.checks.finding import Finding
from evalmon_agent.commands.metrics import JobMetrics
from evalmon_agent.commands.watch import WatchReport
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.exposure import exposure
from evalmon_agent.files.pinned import shown
from evalmon_agent.submitting.start_monitor_jobs import MonitorJobReport
from evalmon_agent.submitting.submit_evals import SubmitReport, Totals
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.words.durations import clock
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import human_bytes, number
from evalmon_agent.words.states import State

_COLOURS = {
    State.UNSUBMITTED: "yellow",
    State.COMPLETED: "green",
    State.RUNNING: "cyan",
    State.PENDING: "yellow",
    State.SUSPENDED: "yellow",
    State.REQUEUED: "yellow",
}
_LINE_CHARS = 16 * 1024
"""Of one warning, which may name several long paths; what is to be typed must be whole."""

_PIPE_COLUMNS = 400
_ROWS_AT_MOST = 10_000
_WAITING_SHOWN = 10
_AROUND_THE_ROWS = 6
_METRICS = ("Job", "State", "Elapsed", "Limit", "Time", "CPU", "Memory", "Requested", "Memory %", "Source")
_LEVEL_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
_VERDICT_COLOURS = {"ok": "green", "failed": "red", "suspect": "magenta", "active": "default"}


def submitted(report: SubmitReport, experiment: Experiment, *, dry_run: bool, as_json: bool) -> None:
    """What `submit` did; warnings and refusals on stderr, these verbatim, one line each."""
    for warning in report.warnings:
        click.echo(f"evalmon: warning: {printable(warning, max_chars=_LINE_CHARS)}", err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        verb = "would submit" if dry_run else "submitted"
        for one in report.submitted:
            job = f"  job {one['job_id']}" if "job_id" in one else ""
            why = f"  ({printable(one['why'], max_chars=400)})" if "why" in one else ""
            click.echo(f"{verb} {printable(one['name'])}{job}{why}")
        for skipped in report.skipped:
            job = f"  job {skipped['job_id']}" if skipped["job_id"] else ""
            click.echo(f"skipped {printable(str(skipped['name']))}{job}: {skipped['why']}")
        for one in report.waiting[:_WAITING_SHOWN]:
            click.echo(f"not submitted yet: {printable(one['name'])} ({printable(one['why'])})")
        if len(report.waiting) > _WAITING_SHOWN:
            click.echo(f"not submitted yet: {len(report.waiting) - _WAITING_SHOWN} more; see evalmon status")
        _helper("completion job", report.completion)
        _helper("sidecar", report.sidecar)
        if report.totals is not None:
            click.echo(_totals(report.totals))
        if not dry_run:
            _where(experiment, report.completion)
    verb = "would refuse" if dry_run else "refused"
    for one in report.refused:
        said = " ".join(printable(line) for line in one["error"].splitlines())
        click.echo(f"evalmon: {printable(one['script'])}: Slurm {verb} it: {said}", err=True)
    _refused_helpers(report)


def _totals(totals: Totals) -> str:
    def count(number: int, what: str) -> str:
        return f"{number} {what}{'s' * (number != 1)}"

    hours = "unknown GPU-hours" if totals.gpu_hours is None else f"{totals.gpu_hours:,.1f} GPU-hours"
    if totals.gpu_hours is not None and totals.evals_without_gpu_hours:
        hours += f" (unknown for {count(totals.evals_without_gpu_hours, 'eval')})"
    return f"in all: {count(totals.evals, 'eval')}, {count(totals.helper_jobs, 'helper job')}, {hours} requested"


def watched(report: WatchReport, experiment: Experiment, *, dry_run: bool, as_json: bool) -> None:
    """What `watch` did; what is not to be had on stderr, one line each."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        verb = "would watch" if dry_run else "watching"
        for one in report.watched:
            click.echo(f"{verb} {printable(one['name'])}  job {one['job_id']} ({one['state']})")
        for one in report.skipped:
            click.echo(f"skipped {printable(one['name'])}  job {one['job_id']}: {one['why']}")
        if report.watched:
            click.echo("of jobs without evalmon's hook, what Slurm and their files tell is all that will be known")
        _helper("completion job", report.completion)
        _helper("sidecar", report.sidecar)
        if report.watched and not dry_run:
            _where(experiment, report.completion)
    for one in report.refused:
        click.echo(f"evalmon: {printable(one['job_id'])}: {printable(one['error'])}", err=True)
    _refused_helpers(report)


def exposed(experiment: Experiment) -> None:
    """On stderr, what others can do to the experiment, if they can."""
    found = exposure(experiment)
    if found is not None:
        click.echo(f"evalmon: note: {printable('; '.join(found))}", err=True)


def _where(experiment: Experiment, completion: MonitorJobReport | None) -> None:
    is_to_come = completion is None or completion.status != "not needed"
    click.echo(shown(f"log: {experiment.log}"))
    click.echo(shown(f"summary{', once all are over' if is_to_come else ''}: {experiment.summary_md}"))


def _refused_helpers(report: SubmitReport | WatchReport) -> None:
    for kind, helper in (("completion job", report.completion), ("sidecar", report.sidecar)):
        if helper is not None and helper.status == "refused":
            said = " ".join(printable(line) for line in helper.detail.splitlines())
            click.echo(f"evalmon: {kind}: refused: {said}", err=True)


def status(summary: Summary, *, as_json: bool) -> None:
    """The table of all evals, or the summary as JSON."""
    if as_json:
        _json(summary)
        return
    console = _console()
    console.print(_table(summary, at_most=_ROWS_AT_MOST))
    hidden = len(summary.evals) - _ROWS_AT_MOST
    console.print(_line(summary) + (f" (+{hidden} more; see evalmon status --json)" if hidden > 0 else ""))
    for advice in dict.fromkeys(text for ev in summary.evals if ev.state is State.UNSUBMITTED for text in ev.advice):
        console.print(Text(printable(advice, max_chars=_PIPE_COLUMNS)))


def watch(ask: Callable[[], Summary], *, every_s: float) -> Summary:
    """The table, renewed until no eval is active or the user ends it."""
    console = Console()
    summary = ask()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            room = max(console.height - _AROUND_THE_ROWS, 1)
            table = _table(summary, at_most=room)
            hidden = len(summary.evals) - room
            table.caption = _line(summary) + (f" ({hidden} not shown: no room)" if hidden > 0 else "")
            live.update(table, refresh=True)
            if not summary.verdicts["active"]:
                return summary
            time.sleep(min(every_s, 5.0))
            summary = ask()


def report(summary: Summary, *, as_json: bool) -> None:
    """The summary as it stands in the file."""
    if as_json:
        _json(summary)
    else:
        click.echo(render(summary), nl=False)


def metrics(found: Sequence[JobMetrics], *, as_json: bool) -> None:
    """One row per job; a job that nobody knows is said on stderr."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([one.as_dict() for one in found]), indent=1).decode())
    else:
        table = _new_table(*_METRICS)
        for one in found:
            table.add_row(*_metrics_row(one))
        _console().print(table)
    for one in found:
        if one.state is None:
            click.echo(f"evalmon: {one.job_id}: no such job in Slurm's accounting", err=True)


def findings(found: Sequence[Finding], *, as_json: bool) -> None:
    """One line per finding: how it stands, what was looked at, what was found, what to do."""
    if as_json:
        rows = [{"check": f.check, "level": f.level, "line": f.line, "advice": f.advice} for f in found]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())
        return
    width = max((len(one.check) for one in found), default=0)
    for one in found:
        level = click.style(f"{one.level:<8}", fg=_LEVEL_COLOURS[one.level])
        line = f"{one.line}; {one.advice}" if one.advice else one.line
        click.echo(f"{level} {printable(one.check):<{width}}  {printable(line)}")


def _metrics_row(one: JobMetrics) -> list[str]:
    figures = one.figures
    if figures is None:
        return [one.job_id, *["unknown"] * 9]
    return [
        one.job_id,
        str(one.state or "unknown"),
        clock(figures.elapsed_s),
        clock(figures.time_limit_s),
        number(figures.time_efficiency_pct, "%", digits=2),
        number(figures.cpu_efficiency_pct, "%", digits=2),
        human_bytes(figures.memory_used_bytes),
        human_bytes(figures.memory_requested_bytes),
        number(figures.memory_efficiency_pct, "%", digits=2),
        figures.source or "unknown",
    ]


def _helper(kind: str, helper: MonitorJobReport | None) -> None:
    if helper is None or helper.status == "refused":
        return
    job = f" job {helper.job_id}" if helper.job_id else ""
    detail = f" ({printable(helper.detail)})" if helper.detail else ""
    click.echo(f"{kind}: {helper.status}{job}{detail}")


def _console() -> Console:
    """A terminal's own width; in a file or a pipe no row is broken."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_COLUMNS)


def _new_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index > 0, overflow="fold")
    return table


def _table(summary: Summary, *, at_most: int | None = None) -> Table:
    """All evals, or, where the terminal has no room for them, first those that run or went wrong."""
    table = _new_table("Evaluation", "Job", "State", "Verdict", "Elapsed", "Limit", "GPU", "Progress")
    evals = summary.evals
    if at_most is not None and len(evals) > at_most:
        evals = sorted(evals, key=_importance)[:at_most]
    for ev in evals:
        table.add_row(
            Text(printable(ev.name)),
            Text(printable(ev.job_id or "")),
            Text(str(ev.state), style=_COLOURS.get(ev.state, "red")),
            Text(ev.verdict, style=_VERDICT_COLOURS[ev.verdict]),
            "" if ev.elapsed_s is None else clock(ev.elapsed_s),
            "" if ev.time_limit_s is None else clock(ev.time_limit_s),
            _gpu(ev),
            _progress(ev),
        )
    return table


def _importance(ev: EvalSummary) -> int:
    if ev.verdict == "active":
        return 2 if ev.state in {State.PENDING, State.UNSUBMITTED} else 0
    return 3 if ev.verdict == "ok" else 1


def _line(summary: Summary) -> str:
    states = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    count = len(summary.evals)
    return f"{count} evaluation{'s' * (count != 1)}: {states or 'none'}"


def _gpu(ev: EvalSummary) -> str:
    if ev.gpu is None or ev.gpu.utilization_mean_pct is None:
        return ""
    return number(ev.gpu.utilization_mean_pct, "%")


def _progress(ev: EvalSummary) -> str:
    if ev.result is None or ev.result.samples_total is None:
        return ""
    done = "?" if ev.result.samples_completed is None else number(ev.result.samples_completed)
    return f"{done}/{number(ev.result.samples_total)}"


def _json(summary: Summary) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(summary), indent=1).decode())
