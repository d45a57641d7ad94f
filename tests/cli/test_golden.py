"""Tests the exact text of `status` and `report` in a terminal, and of summary.md, for experiments of each size.

After a change that is meant: EVALMON_WRITE_GOLDEN=1, then read the diff as a user would.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from evalmon_agent.cli.status_view import Choice, status_text
from evalmon_agent.commands.report import report_text
from evalmon_agent.experiment.state import Heartbeat
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import Summary
from evalmon_agent.words.job_id import parse_job_id
from evalmon_agent.words.states import State
from report_page.studies import study, summary_of

GOLDEN = Path(__file__).parent / "golden"
ROOT = "/home/me/studies/capitalization"
NOW = 1_700_000_000.0
ROWS = {80: 24, 120: 40}


def is_as_before(name: str, text: str) -> bool:
    path = GOLDEN / name
    if "EVALMON_WRITE_GOLDEN" in os.environ:
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()
    return True


def half_way(count: int) -> Summary:
    """The first quarter is over, the next quarter is running, the others are pending."""
    evals = study(count, ROOT).evals
    active = {"verdict": "active", "ended": None, "diagnosis": None, "advice": [], "gpu": None, "exit_code": None}
    for at, ev in enumerate(evals[count // 4 :], count // 4):
        result = replace(ev.result, status="started", samples_completed=at % 90 + 10, samples_total=100, scores={})
        if at < count // 2:
            evals[at] = replace(ev, state=State.RUNNING, result=result, results=[result], **active)
        else:
            waits = {"result": None, "results": [], "started": None, "elapsed_s": None, "attempts": []}
            evals[at] = replace(ev, state=State.PENDING, **active, **waits)
    return summary_of(evals, ROOT, complete=False)


def status(summary: Summary, columns: int, *, rows: int = 0) -> str:
    beat = Heartbeat(role="sidecar", host="n1", pid=1, job_id=parse_job_id("999"), polled_at=NOW - 12)
    size = os.terminal_size((columns, rows or ROWS[columns]))
    return click.unstyle(status_text(summary, beat, Choice(), now=NOW, size=size))


def report(summary: Summary, columns: int) -> str:
    return click.unstyle(report_text(summary, width=columns))


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("count", [12, 40, 200])
@pytest.mark.parametrize("view", [status, report])
def test_the_status_and_report_of_a_finished_experiment(
    view: Callable[[Summary, int], str], count: int, columns: int
) -> None:
    text = view(study(count, ROOT), columns)
    assert is_as_before(f"{view.__name__}-{count}-{columns}.txt", text)
    # A path in a command is never broken over two lines.
    assert max(len(line) for line in text.splitlines() if not line.startswith(("    ", "  Output: "))) <= columns


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("count", [12, 40, 200])
def test_the_status_and_report_of_a_running_experiment(count: int, columns: int) -> None:
    assert is_as_before(f"status-half-way-{count}-{columns}.txt", status(half_way(count), columns))


def test_running_evals_whose_samples_come_too_slowly_are_named() -> None:
    summary = half_way(40)
    assert "10 running evals may reach the time limit at this pace" in " ".join(status(summary, 80).split())
    only = next(ev for ev in summary.evals if ev.state is State.RUNNING)
    fast = [ev if ev is only else replace(ev, time_limit_s=1e6) for ev in summary.evals]
    assert f"{only.name} may reach" in " ".join(status(replace(summary, evals=fast), 120).split())
    unlimited = [replace(ev, time_limit_s=None) for ev in summary.evals]
    assert "may reach" not in status(replace(summary, evals=unlimited), 80)


@pytest.mark.parametrize("count", [12, 40, 200])
def test_the_summary_in_markdown(count: int) -> None:
    assert is_as_before(f"summary-{count}.md", render(study(count, ROOT)).removesuffix("\n"))


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("rows", [12, 24, 60])
def test_10_000_evals_take_no_more_rows_than_the_terminal(columns: int, rows: int) -> None:
    lines = status(TEN_THOUSAND, columns, rows=rows).splitlines()
    assert len(lines) < rows or (columns, rows) == (40, 12)  # too small for the verdict and a cause


TEN_THOUSAND = study(10_000, ROOT)
