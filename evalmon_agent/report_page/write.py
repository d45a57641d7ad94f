"""Writes report.html: has its plots drawn in a process of its own, and does without those that it did not get."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.report_page.page import drawn_evals, render
from evalmon_agent.slurm import commands
from evalmon_agent.slurm.commands import Finished
from evalmon_agent.summary.records import Summary
from evalmon_agent.summary.scores import score_table

_DRAWING_S = 120.0
_NOT_INSTALLED = (
    "The plots are missing: evalmon is installed without its extra `report`. To add them: "
    "{python} -m pip install vl-convert-python, then evalmon report EXP."
)


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


def _draw(experiment: Experiment, environ: Mapping[str, str]) -> tuple[dict[tuple[str, str], str], str | None]:
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


def _why(done: Finished) -> str:
    if done.timed_out:
        return f"drawing them took more than {_DRAWING_S:.0f} s"
    said = done.stderr.strip().rpartition("\n")[2] or done.problem
    return f"the process that draws them ended with status {done.returncode}{': ' * bool(said)}{said}"
