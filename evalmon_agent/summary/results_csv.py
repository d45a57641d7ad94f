"""Writes the results as CSV, one row each, for a spreadsheet or pandas. Pure.

Errors are left out: a program wrote them, and a spreadsheet would run what begins with `=`.
"""

from __future__ import annotations

import csv
import io

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.summary.scores import run_task_epoch

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
_EVAL_COLUMNS = ("eval", "run", "epoch", "verdict", "state", "job_id", "cause", "elapsed_s", "gpu_hours")


def results_csv(summary: Summary) -> str:
    """A row for each result, and one for each eval without a result; a column for each score, empty where unknown."""
    scores = list(dict.fromkeys(f"score:{name}" for ev in summary.evals for r in ev.results for name in r.scores))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_EVAL_COLUMNS, *_RESULT_COLUMNS, *scores], lineterminator="\n")
    writer.writeheader()
    for ev in summary.evals:
        for result in (*ev.results,) or (None,):
            writer.writerow(_of_eval(ev) | _of_result(ev, result))
    return text.getvalue()


def _of_eval(ev: EvalSummary) -> dict[str, object]:
    run, _, epoch = run_task_epoch(ev.name)
    return {
        "eval": ev.name,
        "run": run,
        "epoch": epoch,
        "verdict": ev.verdict,
        "state": str(ev.state),
        "job_id": ev.job_id,
        "cause": None if ev.diagnosis is None else ev.diagnosis.cause,
        "elapsed_s": ev.elapsed_s,
        "gpu_hours": ev.cost.gpu_hours,
    }


def _of_result(ev: EvalSummary, result: EvalResult | None) -> dict[str, object]:
    if result is None:
        return {"task": run_task_epoch(ev.name)[1]}  # that of its name
    scores = {f"score:{name}": "nan" if value is None else value for name, value in result.scores.items()}
    return {name: getattr(result, name) for name in _RESULT_COLUMNS} | scores
