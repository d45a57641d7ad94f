"""Writes the results as CSV, one row each, for a spreadsheet or pandas. Pure.

What others wrote is made printable and never a formula, which a spreadsheet would run; errors are left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.summary.scores import run_task_epoch
from evalmon_agent.words.printable import printable

_RESULT_COLUMNS = (
    "task",
    "model",
    "status",
    "samples_completed",
    "samples_total",
    "samples_failed",
    "samples_limited",
    "log",
    "known_by",
)
_EVAL_COLUMNS: dict[str, Callable[[EvalSummary], object]] = {
    "eval": lambda ev: ev.name,
    "run": lambda ev: run_task_epoch(ev.name)[0],
    "epoch": lambda ev: run_task_epoch(ev.name)[2],
    "verdict": lambda ev: ev.verdict,
    "state": lambda ev: str(ev.state),
    "job_id": lambda ev: ev.job_id,
    "cause": lambda ev: None if ev.diagnosis is None else ev.diagnosis.cause,
    "elapsed_s": lambda ev: ev.elapsed_s,
    "gpu_hours": lambda ev: ev.cost.gpu_hours,
}
"""The heading, and the function for the cell."""
_FORMULA = re.compile(r"[=+@-]")
_LONGEST_CELL = 32_000


def results_csv(summary: Summary) -> str:
    """A row for each result, and one for each eval without a result; a column for each score, empty where unknown."""
    scores = list(dict.fromkeys(_score(name) for ev in summary.evals for r in ev.results for name in r.scores))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_EVAL_COLUMNS, *_RESULT_COLUMNS, *scores], lineterminator="\n")
    writer.writeheader()
    for ev in summary.evals:
        for result in (*ev.results,) or (None,):
            row = {name: write(ev) for name, write in _EVAL_COLUMNS.items()} | _of_result(ev, result)
            writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _score(name: str) -> str:
    return printable(f"score:{name}")


def _cell(value: object) -> object:
    """A text as it may stand in a terminal and in a spreadsheet."""
    if not isinstance(value, str):
        return value
    text = printable(value, max_chars=_LONGEST_CELL)
    return f"'{text}" if _FORMULA.match(text) else text


def _of_result(ev: EvalSummary, result: EvalResult | None) -> dict[str, object]:
    if result is None:
        return {"task": run_task_epoch(ev.name)[1]}  # that of its name
    scores = {_score(name): "nan" if value is None else value for name, value in result.scores.items()}
    return {name: getattr(result, name) for name in _RESULT_COLUMNS} | scores
