"""Writes report.html: from the summary, and from plots that a process of its own draws (`draw.py`).

The template escapes all outside text, and each value in it is made printable first (`finalize`). The page does without
the plots that it did not get.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

import evalmon_agent
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.slurm import commands
from evalmon_agent.summary.attention import groups, in_order, need_attention, next_round, verdict_line
from evalmon_agent.summary.cost import FIGURE_WORDS, KWH_J, together
from evalmon_agent.summary.records import Cost, EvalSummary, Summary
from evalmon_agent.summary.scores import run_task_epoch, score_table
from evalmon_agent.words.durations import human, parse_stamp, total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import human_bytes, number
from evalmon_agent.words.states import State, exit_in_words, in_words

DRAWN_AT_MOST = 200
"""Of an experiment with more evals, those that need attention have plots, so many at most; also of scores so many."""
_TICKS_AT_MOST = 6
_TICK_STEPS_S = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800, 2592000)
_DAY_S = 86400
_NAMES_AT_MOST = 8
_GLYPHS = {
    "ok": "✓",
    "failed": "✕",
    "refused": "⊘",
    "suspect": "!",
    "unverified": "?",
    "active": "▸",
    "dropped": "·",
}
_ADVICE_AT_MOST = 40
_DRAWING_S = 120.0
_NOT_INSTALLED = (
    "The plots are missing: evalmon is installed without its extra `report`. To add them: "
    "{python} -m pip install vl-convert-python, then evalmon report EXP."
)

Plots = Mapping[tuple[str, str], str]
"""SVG by kind (utilization, memory, score) and key."""


def write_page(experiment: Experiment, summary: Summary, *, environ: Mapping[str, str], mode: int) -> str | None:
    """Replace report.html by what the summary says, which stands in summary.json.

    Returns why plots are missing, None if all are there. The drawing takes two minutes at most.

    Raises:
        OSError: the page could not be written.
    """
    plots, note = _draw(experiment, environ) if _has_plots(summary) else ({}, None)
    replace_atomically(experiment.report_html, render(summary, plots=plots, note=note).encode(), mode=mode)
    return note


def _has_plots(summary: Summary) -> bool:
    """Whether there is anything to draw; otherwise no process is started."""
    has_use = any(ev.gpu is not None for ev in drawn_evals(summary))
    return has_use or any(len(row.points) > 1 for row in score_table(summary.evals).rows)


def _draw(experiment: Experiment, environ: Mapping[str, str]) -> tuple[Plots, str | None]:
    if find_spec("vl_convert") is None:
        return {}, _NOT_INSTALLED.format(python=sys.executable)
    argv = [sys.executable, "-E", "-P", "-m", "evalmon_agent.report_page.draw", experiment.root, experiment.id or ""]
    with progress_bar("Drawing report.html") as show:

        def goes_on() -> bool:
            show(0)
            return False

        done = commands.run(argv, timeout_s=_DRAWING_S, env=environ, dies_with_us=True, stopped=goes_on)
    plots = {}
    for line in done.stdout.split("\n"):
        with suppress(ValueError):  # the last line of a process that was ended
            kind, key, svg = json.loads(line)
            plots[kind, key] = svg
    return plots, None if done.ok else f"Some plots are missing: {_why(done)}."


def _why(done: commands.Finished) -> str:
    if done.timed_out:
        return f"drawing them took more than {_DRAWING_S:.0f} s"
    said = done.stderr.strip().rpartition("\n")[2] or done.problem
    return f"the process that draws them ended with status {done.returncode}{': ' * bool(said)}{said}"


class Tick(NamedTuple):
    """A mark of the time line: its place in percent of the width, and what it says."""

    at_pct: float
    text: str


class Bar(NamedTuple):
    """A part of an eval's life in the time line, in percent of the width. `kind`: wait or run."""

    kind: str
    start_pct: float
    width_pct: float


class TimeLine:
    """Places times between the first submission and the last end; `ticks` has the marks."""

    def __init__(self, summary: Summary) -> None:
        attempts = [attempt for ev in summary.evals for attempt in ev.attempts]
        begun = [at for attempt in attempts if (at := stamp(attempt.submitted) or stamp(attempt.started)) is not None]
        ended = [at for attempt in attempts if (at := stamp(attempt.ended)) is not None]
        written = parse_stamp(summary.generated_at)
        active = any(ev.verdict == "active" for ev in summary.evals)
        self._start = min(begun, default=written or 0.0)
        self._end = max([*ended, *begun, *([written or 0.0] if active else [])], default=written or 0.0)
        self._width_s = max(self._end - self._start, 1.0)
        self._zone = None if written is None else datetime.fromisoformat(summary.generated_at).tzinfo
        self.ticks = list(self._ticks())

    def bars(self, ev: EvalSummary) -> list[Bar]:
        """Each attempt's time in the queue and time of running."""
        bars = []
        for attempt in ev.attempts:
            submitted, started, ended = stamp(attempt.submitted), stamp(attempt.started), stamp(attempt.ended)
            now = self._end if attempt is ev.attempts[-1] and ev.verdict == "active" else None
            waited_until, run_until = started or ended or now, ended or now
            if submitted is not None and waited_until is not None:
                bars.append(self._bar("wait", submitted, waited_until))
            if started is not None and run_until is not None:
                bars.append(self._bar("run", started, run_until))
        return bars

    def _bar(self, kind: str, start: float, end: float) -> Bar:
        return Bar(kind, self._pct(start), max(self._pct(end) - self._pct(start), 0.0))

    def _pct(self, at: float) -> float:
        return round(min(max(100 * (at - self._start) / self._width_s, 0.0), 100.0), 2)

    def _ticks(self) -> Iterator[Tick]:
        """At round local times."""
        step_s = next((step for step in _TICK_STEPS_S if self._width_s / step <= _TICKS_AT_MOST), _TICK_STEPS_S[-1])
        try:
            start = datetime.fromtimestamp(self._start, tz=self._zone)
        except (OverflowError, ValueError, OSError):
            return
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        passed = int((start - midnight).total_seconds() // step_s) + 1
        at = midnight + timedelta(seconds=passed * step_s)
        form = "%b %d" if step_s >= _DAY_S else "%H:%M:%S" if step_s < 60 else "%H:%M"
        while (place := at.timestamp()) < self._end:
            if self._pct(place) < 90:
                yield Tick(self._pct(place), at.strftime(form))
            at += timedelta(seconds=step_s)


def stamp(text: str | None) -> float | None:
    """Epoch seconds of one of the summary's times."""
    return None if text is None else parse_stamp(text)


def costs_by_run(evals: Sequence[EvalSummary]) -> dict[str, tuple[int, Cost]]:
    """How many evals each run has, and what they cost together; a figure that is unknown for one of them is None."""
    by_run: dict[str, list[Cost]] = {}
    for ev in evals:
        by_run.setdefault(run_task_epoch(ev.name)[0], []).append(ev.cost)
    return {run: (len(costs), together(costs)) for run, costs in by_run.items()}


def drawn_evals(summary: Summary) -> list[EvalSummary]:
    """The evals that have plots, those that need attention first."""
    evals = in_order(summary.evals)
    if len(evals) > DRAWN_AT_MOST:
        names = need_attention(summary)
        evals = [ev for ev in evals if ev.name in names]
    return evals[:DRAWN_AT_MOST]


def render(summary: Summary, *, plots: Plots, note: str | None = None) -> str:
    """The page; `note` says why there are no plots, or not all."""
    return _template().render(
        summary=summary,
        headline=verdict_line(summary),
        groups=groups(summary),
        evals=in_order(summary.evals),
        drawn={ev.name for ev in drawn_evals(summary)},
        anchors={ev.name: f"e{place}" for place, ev in enumerate(summary.evals)},
        timeline=TimeLine(summary),
        scores=score_table(summary.evals),
        plot=lambda kind, key: Markup(plots[kind, key]) if (kind, key) in plots else "",  # noqa: S704 - ours: numbers
        with_use=[ev for ev in in_order(summary.evals) if ev.gpu is not None],
        has_cost=summary.cost.gpu_hours is not None or summary.cost.cpu_hours is not None,
        costs=costs_by_run(summary.evals),
        advice=next_round(summary.evals),
        note=note,
        version=evalmon_agent.__version__,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("evalmon_agent.report_page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters.update(
        duration=_short,
        energy=_energy,
        total=total,
        bytes=human_bytes,
        number=number,
        ending=_ending,
        when=_when,
        link=_link,
    )
    environment.globals.update(
        glyphs=_GLYPHS,
        names_at_most=_NAMES_AT_MOST,
        drawn_at_most=DRAWN_AT_MOST,
        advice_at_most=_ADVICE_AT_MOST,
        words=FIGURE_WORDS,
    )
    return environment.get_template("page.html.jinja")


def _finalized(value: object) -> object:
    """What the template writes: no character of an outside text can order, hide or end anything."""
    if isinstance(value, Markup) or value is None:
        return "" if value is None else value
    return printable(str(value))


def _ending(ev: EvalSummary) -> str:
    """How it ended or where it stands, and with which attempt; empty where the verdict says it already."""
    parts = [_state_in_words(ev), f"attempt {len(ev.attempts)}" if len(ev.attempts) > 1 else ""]
    return ", ".join(filter(None, parts))


def _state_in_words(ev: EvalSummary) -> str:
    if ev.verdict == "ok" and ev.state is State.COMPLETED:
        return ""
    how = exit_in_words(ev.exit_code, ev.signal) if ev.state is State.FAILED else ""
    return how or in_words(ev.state)


def _short(seconds: float | None) -> str:
    """`1h 30m`, `4m 52s`; empty for None."""
    return "" if seconds is None else human(seconds).removesuffix(" 0s").removesuffix(" 0m")


def _energy(energy_j: float | None) -> str:
    return number(None if energy_j is None else energy_j / KWH_J, " kWh", digits=2)


def _when(text: str | None) -> str:
    """`26 Nov 2026, 14:05`; the text itself if it is no time."""
    if text is None or parse_stamp(text) is None:
        return text or "unknown"
    return datetime.fromisoformat(text).strftime("%d %b %Y, %H:%M %Z").strip()


def _link(path: str, experiment: str) -> str | None:
    """The relative address of a file of the experiment, seen from report.html; None for a file elsewhere."""
    inside = os.path.relpath(path, experiment)
    return None if inside.startswith("..") or not path.startswith("/") else "../" + quote(inside, errors="replace")
