"""Shows the status of an experiment in a terminal: the verdict, how fresh it is, what needs attention, and a table."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from evalmon_agent.cli.output import Cell, table_lines
from evalmon_agent.experiment.heartbeat import Heartbeat
from evalmon_agent.summary.attention import groups, need_attention, verdict_line
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.words.durations import clock, total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import number
from evalmon_agent.words.states import State

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
_SHORT = {State.OUT_OF_MEMORY: "OOM", State.NODE_FAIL: "NODE FAIL", State.BOOT_FAIL: "BOOT FAIL"}
_ATTENTION_CHARS = 400
_ROWS_AT_MOST = 10_000
_LINES_FOR_THE_REST = 10
"""What a terminal needs besides the causes: the verdict, how fresh it is, and the shortest table."""
_LINES_AROUND_THE_ROWS = 5
"""An empty line, the heading, its rule, how many more there are, and the shell's prompt."""

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
    lines = list(_wrapped(verdict_line(summary), width))
    lines += _wrapped(_freshness(summary, heartbeat, now=now), width)
    if attention := _attention_lines(summary, None if choice.show_all else size):
        lines += ["", *attention]
    evals = _chosen(summary, choice)
    if not evals:
        return "\n".join(lines)
    room = _ROWS_AT_MOST
    if size is not None and not choice.show_all:
        room = max(size.lines - len(lines) - _LINES_AROUND_THE_ROWS, 1)
    shown, hidden = _within(evals, room, is_sorted=choice.sort is not None)
    lines += ["", *_table(shown, width, is_grouped=choice.sort is None and width is not None)]
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
        parts.append("Slurm was not asked yet")
    else:
        job = f" job {heartbeat.job_id}" if heartbeat.job_id is not None else ""
        who = f"the {heartbeat.role}{job}" if heartbeat.role != "command" else "a command"
        parts.append(f"Slurm was asked {total(max(now - heartbeat.polled_at, 0.0))} ago by {who}")
    left_s = _left_s(summary.evals)
    if left_s:
        parts.append(f"about {total(left_s)} left at this pace")
    return "; ".join(parts)


def _left_s(evals: Sequence[EvalSummary]) -> float | None:
    """Seconds until all have run, if each takes as long as those that succeeded and as many run at once as now."""
    durations = [ev.elapsed_s for ev in evals if ev.verdict == "ok" and ev.elapsed_s is not None]
    running = [ev.elapsed_s or 0.0 for ev in evals if ev.verdict == "active" and ev.state is State.RUNNING]
    if not durations or not running:
        return None  # nothing to go by
    usual_s = statistics.median(durations)
    waiting = sum(ev.verdict == "active" for ev in evals) - len(running)
    return (sum(max(usual_s - elapsed_s, 0.0) for elapsed_s in running) + waiting * usual_s) / len(running)


def _attention(summary: Summary) -> Iterator[list[str]]:
    """What a person can do something about: for each cause its lines, the first of them with what happened."""
    for group in groups(summary):
        loss = f" ({group.loss})" if group.loss else ""
        evidence = f": {group.evidence}" if group.evidence else ""
        yield [
            printable(f"* {group.headline}{loss}{evidence}", max_chars=_ATTENTION_CHARS),
            *(printable(f"  {text}", max_chars=_ATTENTION_CHARS) for text in (*group.advice, *group.commands[:1])),
        ]
    for text in dict.fromkeys(text for ev in summary.evals if ev.state is State.UNSUBMITTED for text in ev.advice):
        yield [printable(f"* {text}", max_chars=_ATTENTION_CHARS)]


def _attention_lines(summary: Summary, size: os.terminal_size | None) -> list[str]:
    """As many causes as there is room for beside a few rows; of the first one at least what happened."""
    room = _ROWS_AT_MOST if size is None else max((size.lines - _LINES_FOR_THE_REST) // 2, 1)
    lines: list[str] = []
    items = list(_attention(summary))
    for place, item in enumerate(items):
        wrapped = [line for text in item for line in _wrapped(text, size.columns if size else None, indent="  ")]
        if lines and len(lines) + len(wrapped) > room:
            return [*lines, f"(+{len(items) - place} more; evalmon report shows all)"]
        lines += wrapped[:room]
    return lines


def _chosen(summary: Summary, choice: Choice) -> list[EvalSummary]:
    evals = [ev for ev in summary.evals if choice.names is None or ev.name in choice.names]
    if choice.failed:
        names = need_attention(summary)
        evals = [ev for ev in evals if ev.name in names]
    return evals if choice.sort is None else sorted(evals, key=SORTS[choice.sort])


def _within(evals: list[EvalSummary], room: int, *, is_sorted: bool) -> tuple[list[EvalSummary], int]:
    """As many as there is room for, with the headings of their runs: those that run or went wrong before others."""
    if len(evals) + len(_runs(evals)) <= room:
        return evals, 0
    chosen = evals if is_sorted else sorted(evals, key=_importance)
    count, runs = 0, set[str]()
    for ev in chosen:
        runs.add(_run_of(ev))
        if count + 1 + (0 if is_sorted else len(runs - {""})) > room:
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


def _table(evals: Sequence[EvalSummary], width: int | None, *, is_grouped: bool) -> Iterator[str]:
    """A row for each eval; the name of a run stands once above its evals."""
    rows: list[list[Cell]] = []
    for run, members in groupby(evals, key=_run_of if is_grouped else lambda _: ""):
        if run:
            rows.append([(run, None), *[("", None)] * (len(_COLUMNS) - 1)])
        rows += [_row(ev, f"  {printable(ev.name).removeprefix(run)}" if run else printable(ev.name)) for ev in members]
    return table_lines(_COLUMNS, rows, width=width, optional=_OPTIONAL)


def _run_of(ev: EvalSummary) -> str:
    run, slash, _ = printable(ev.name).partition("/")
    return run + slash if slash else ""


def _runs(evals: Sequence[EvalSummary]) -> list[str]:
    return [run for run, _ in groupby(evals, key=_run_of) if run]


def _row(ev: EvalSummary, name: str) -> list[Cell]:
    gpu_pct = None if ev.gpu is None else ev.gpu.utilization_mean_pct
    return [
        (name, None),
        (_outcome(ev), _COLOURS.get(ev.verdict if ev.verdict != "active" else str(ev.state))),
        ("" if ev.elapsed_s is None else clock(ev.elapsed_s), None),
        ("" if ev.time_limit_s is None else clock(ev.time_limit_s), None),
        ("" if gpu_pct is None else number(gpu_pct, "%"), None),
        (_samples(ev), None),
        (printable(ev.job_id or ""), None),
    ]


def _outcome(ev: EvalSummary) -> str:
    """The verdict; with Slurm's state where the verdict does not imply it."""
    if ev.verdict == "active":
        return str(ev.state)
    if ev.verdict == "failed" and ev.state is not State.FAILED:
        return f"failed ({_SHORT.get(ev.state, ev.state)})"
    return ev.verdict


def _samples(ev: EvalSummary) -> str:
    if ev.result is None or ev.result.samples_total is None:
        return ""
    done = "?" if ev.result.samples_completed is None else number(ev.result.samples_completed)
    which = f" (worst of {len(ev.results)})" if len(ev.results) > 1 else ""
    return f"{done}/{number(ev.result.samples_total)}{which}"


def _wrapped(text: str, width: int | None, *, indent: str = "") -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
