"""Shows the status of an experiment in a terminal: the verdict, how fresh it is, what needs attention, and a table."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import click

from evalmon_agent.cli.output import in_bold, table_lines, wrapped, wrapped_command
from evalmon_agent.experiment.state import Heartbeat
from evalmon_agent.summary.attention import groups, is_unchecked, need_attention, verdict_line
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.words.durations import clock, total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import number
from evalmon_agent.words.states import State, in_words

_COLUMNS = ("Eval", "Outcome", "Elapsed", "Limit", "GPU", "Samples", "Job")
_OPTIONAL = ("Limit", "Job", "GPU")
"""Columns that a narrow terminal does without, the least important first."""

_COLOURS = {
    "ok": "green",
    "failed": "red",
    "refused": "red",
    "suspect": "magenta",
    "unverified": "yellow",
    "RUNNING": "cyan",
    "PENDING": "yellow",
    "SUSPENDED": "yellow",
    "REQUEUED": "yellow",
    "UNSUBMITTED": "yellow",
}
_ATTENTION_CHARS = 400
_LINE_CHARS = 16 * 1024
"""A command to type must be complete."""
_TELLING_FRACTION = 0.1
"""From how much of the samples on the pace says how long the rest takes."""
_ROWS_AT_MOST = 10_000
_LINES_FOR_THE_REST = 10
"""What a terminal needs besides the causes: the verdict, how fresh it is, and the shortest table."""
_LINES_AROUND_THE_ROWS = 5
"""An empty line, the heading, its rule, how many more there are, and the shell's prompt."""
_LINES_OF_HEADING = 2

SORTS: Mapping[str, Callable[[EvalSummary], tuple[object, ...]]] = {
    "name": lambda ev: (ev.name,),
    "state": lambda ev: (_importance(ev), ev.state, ev.name),
    "elapsed": lambda ev: (-(ev.elapsed_s or 0.0), ev.name),
    "gpu-hours": lambda ev: (-(ev.cost.gpu_hours or 0.0), ev.name),
}
"""What `--sort` takes. Without it, evals stand in the order of their submission."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which evals the table shows, and in what order; the verdict is always of all."""

    show_all: bool = False
    failed: bool = False
    names: Collection[str] | None = None
    """Of the evals to be shown; None: all."""
    sort: str | None = None


def status_text(
    summary: Summary, heartbeat: Heartbeat | None, choice: Choice, *, now: float, size: os.terminal_size | None
) -> str:
    """All lines; in a terminal of `size` no more than it has, unless all evals are to be shown. No name is broken."""
    width = None if size is None else size.columns
    lines = in_bold(wrapped(verdict_line(summary), width)) if size is not None else [verdict_line(summary)]
    lines += wrapped(_freshness(summary, heartbeat, now=now), width)
    if needing := _attention_lines(summary, None if choice.show_all else size):
        lines += ["", *needing]
    evals = _chosen(summary, choice)
    if not evals:
        return "\n".join(lines)
    room = _ROWS_AT_MOST
    if size is not None and not choice.show_all:
        room = max(size.lines - len(lines) - _LINES_AROUND_THE_ROWS, 1)
    is_sorted = choice.sort is not None
    is_grouped = not is_sorted and width is not None and room > 1
    shown, hidden = _within(evals, room, is_sorted=is_sorted, is_grouped=is_grouped)
    table = list(eval_table(shown, width, is_grouped=is_grouped))
    if len(table) > room + _LINES_OF_HEADING:  # names that have lines of their own
        shown, hidden = _within(evals, max(room // 2, 1), is_sorted=is_sorted, is_grouped=is_grouped)
        table = list(eval_table(shown, width, is_grouped=is_grouped))
    lines += ["", *table]
    if hidden:
        advice = "--all shows every eval" if room < _ROWS_AT_MOST else "--json shows every eval"
        lines.append(f"(+{hidden} more; {advice})")
    return "\n".join(lines)


def _freshness(summary: Summary, heartbeat: Heartbeat | None, *, now: float) -> str:
    """Who polled when, and how long the rest may take."""
    parts = []
    if summary.complete:
        parts.append("Monitoring is complete")
    elif heartbeat is None or not heartbeat.polled_at:
        parts.append("Slurm has not been asked yet")
    else:
        job = f" job {heartbeat.job_id}" if heartbeat.job_id is not None else ""
        who = f"the {heartbeat.role}{job}" if heartbeat.role != "command" else "a command"
        parts.append(f"Slurm was asked {total(max(now - heartbeat.polled_at, 0.0))} ago by {who}")
    left_s = _left_s(summary.evals)
    if left_s:
        parts.append(f"about {total(left_s)} left at this pace")
    if late := _late(summary.evals):
        names = f"{late[0].name}" if len(late) == 1 else f"{len(late)} running evals"
        parts.append(f"{printable(names)} may reach the time limit at this pace")
    return "; ".join(parts)


def _late(evals: Sequence[EvalSummary]) -> list[EvalSummary]:
    """The running evals whose samples come too slowly for their time limit."""
    return [ev for ev in _running(evals) if ev.time_limit_s and (_duration_by_samples(ev) or 0.0) > ev.time_limit_s]


@dataclass(frozen=True, slots=True)
class SamplesSoFar:
    """What `evals` of the `running` evals have done; of the others it is not known."""

    done: int
    total: int
    evals: int
    running: int


def samples_of_running(summary: Summary) -> SamplesSoFar | None:
    """The samples of those running evals of which both numbers are known; None if there is none."""
    running = _running(summary.evals)
    counts = [count for ev in running if (count := _samples_so_far(ev)) is not None]
    if not counts:
        return None
    return SamplesSoFar(sum(done for done, _ in counts), sum(total for _, total in counts), len(counts), len(running))


def _running(evals: Sequence[EvalSummary]) -> list[EvalSummary]:
    return [ev for ev in evals if ev.verdict == "active" and ev.state is State.RUNNING]


def _samples_so_far(ev: EvalSummary) -> tuple[int, int] | None:
    """Done and total."""
    result = ev.result
    if result is None or result.samples_completed is None or not result.samples_total:
        return None
    return result.samples_completed, result.samples_total


def _left_s(evals: Sequence[EvalSummary]) -> float | None:
    """Seconds until all have run, if as many run at once as now; None where there is nothing to go by.

    A running eval takes as long as its samples say, any other as long as those usually take that succeeded.
    """
    running = _running(evals)
    by_samples = {ev.name: duration_s for ev in running if (duration_s := _duration_by_samples(ev)) is not None}
    durations = [ev.elapsed_s for ev in evals if ev.verdict == "ok" and ev.elapsed_s is not None]
    if not running or not (durations or by_samples):
        return None
    usual_s = statistics.median(durations or by_samples.values())
    left_s = sum(max(by_samples.get(ev.name, usual_s) - (ev.elapsed_s or 0.0), 0.0) for ev in running)
    waiting = sum(ev.verdict == "active" for ev in evals) - len(running)
    return (left_s + waiting * usual_s) / len(running)


def _duration_by_samples(ev: EvalSummary) -> float | None:
    """Seconds that a running eval takes in all at its present pace; None before a tenth of its samples is done."""
    counts = _samples_so_far(ev)
    if counts is None or not ev.elapsed_s or counts[0] < counts[1] * _TELLING_FRACTION:
        return None
    return ev.elapsed_s * counts[1] / counts[0]


def attention(summary: Summary, width: int | None, *, is_brief: bool) -> Iterator[list[str]]:
    """What a person can do something about: for each cause its lines, the first of them with what happened.

    `is_brief`: only one command, and not where the output is.
    """
    for group in groups(summary):
        loss = f" ({group.loss})" if group.loss else ""
        evidence = f": {group.evidence}" if group.evidence else ""
        lines = _bullet(f"{group.headline}{loss}{evidence}", width)
        for text in group.advice:
            lines += wrapped(printable(f"  {text}", max_chars=_ATTENTION_CHARS), width, indent="  ")
        for command in group.commands[:1] if is_brief else group.commands:
            lines += [printable(line, max_chars=_LINE_CHARS) for line in wrapped_command(command, width, indent="    ")]
        if not is_brief and group.evals and group.evals[0].log is not None:
            lines.append(printable(f"  Output: {group.evals[0].log}", max_chars=_LINE_CHARS))
        yield lines
    for text in dict.fromkeys(text for ev in summary.evals if ev.state is State.UNSUBMITTED for text in ev.advice):
        yield _bullet(text, width)


def _bullet(text: str, width: int | None) -> list[str]:
    return wrapped(printable(f"* {text}", max_chars=_ATTENTION_CHARS), width, indent="  ")


def _attention_lines(summary: Summary, size: os.terminal_size | None) -> list[str]:
    """As many causes as there is room for beside a few rows; of the first one at least what happened."""
    room = _ROWS_AT_MOST if size is None else max((size.lines - _LINES_FOR_THE_REST) // 2, 1)
    lines: list[str] = []
    items = list(attention(summary, size.columns if size else None, is_brief=True))
    for place, item in enumerate(items):
        if lines and len(lines) + len(item) > room:
            return [*lines, f"(+{len(items) - place} more; evalmon report shows all)"]
        lines += item[:room]
    return lines


def _chosen(summary: Summary, choice: Choice) -> list[EvalSummary]:
    evals = [ev for ev in summary.evals if choice.names is None or ev.name in choice.names]
    if choice.failed:
        names = need_attention(summary)
        evals = [ev for ev in evals if ev.name in names]
    return evals if choice.sort is None else sorted(evals, key=SORTS[choice.sort])


def _within(evals: list[EvalSummary], room: int, *, is_sorted: bool, is_grouped: bool) -> tuple[list[EvalSummary], int]:
    """As many as there is room for, with the headings of their runs: those that run or went wrong before others."""
    if len(evals) + is_grouped * len(_runs(evals)) <= room:
        return evals, 0
    chosen = evals if is_sorted else sorted(evals, key=_importance)
    count, runs = 0, set[str]()
    for ev in chosen:
        runs.add(_run_of(ev))
        if count + 1 + is_grouped * len(runs - {""}) > room:
            break
        count += 1
    shown = chosen[: max(count, 1)]
    if not is_sorted:
        names = {ev.name for ev in shown}
        shown = [ev for ev in evals if ev.name in names]
    return shown, len(evals) - len(shown)


def _importance(ev: EvalSummary) -> int:
    if ev.verdict == "active":
        return 2 if ev.state in {State.PENDING, State.UNSUBMITTED} else 0
    return 3 if ev.verdict == "ok" else 1


def eval_table(evals: Sequence[EvalSummary], width: int | None, *, is_grouped: bool) -> Iterator[str]:
    """A row for each eval; the name of a run stands once above its evals."""
    rows: list[list[str]] = []
    for run, members in groupby(evals, key=_run_of if is_grouped else lambda _: ""):
        if run:
            rows.append([run, *[""] * (len(_COLUMNS) - 1)])
        rows += [_row(ev, f"  {printable(ev.name).removeprefix(run)}" if run else printable(ev.name)) for ev in members]
    return table_lines(_COLUMNS, rows, width=width, optional=_OPTIONAL)


def _run_of(ev: EvalSummary) -> str:
    run, slash, _ = printable(ev.name).partition("/")
    return run + slash if slash else ""


def _runs(evals: Sequence[EvalSummary]) -> list[str]:
    return [run for run, _ in groupby(evals, key=_run_of) if run]


def _row(ev: EvalSummary, name: str) -> list[str]:
    gpu_pct = None if ev.gpu is None else ev.gpu.utilization_mean_pct
    colour = _COLOURS.get(ev.verdict if ev.verdict != "active" else str(ev.state))
    return [
        name,
        _outcome(ev) if colour is None else click.style(_outcome(ev), fg=colour),
        "" if ev.elapsed_s is None else clock(ev.elapsed_s),
        "" if ev.time_limit_s is None else clock(ev.time_limit_s),
        "" if gpu_pct is None else number(gpu_pct, "%"),
        _samples(ev),
        printable(ev.job_id or ""),
    ]


def _outcome(ev: EvalSummary) -> str:
    """The verdict; with Slurm's state where the verdict does not imply it."""
    if ev.verdict == "active":
        return in_words(ev.state)
    if ev.verdict == "failed" and ev.state is not State.FAILED:
        return f"failed ({in_words(ev.state)})"
    return "not checked yet" if is_unchecked(ev) else ev.verdict


def _samples(ev: EvalSummary) -> str:
    if ev.result is None or ev.result.samples_total is None:
        return ""
    done = "?" if ev.result.samples_completed is None else number(ev.result.samples_completed)
    which = f" (worst of {len(ev.results)})" if len(ev.results) > 1 else ""
    return f"{done}/{number(ev.result.samples_total)}{which}"
