"""Tests the results as CSV: one row each, and one for each eval without results."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import msgspec

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.summary.results_csv import results_csv
from summary.summarised import finished, summary_of


def test_each_result_and_each_eval_without_one_has_a_row() -> None:
    whole = summary_of(finished())
    [ev] = whole.evals
    results = [
        EvalResult(status="success", task="a, b", scores={"match/accuracy": 2 / 3}),
        EvalResult(status="error", task="c", scores={"f1": None}, error="=cmd|' /C calc'!A0"),
    ]
    both = msgspec.structs.replace(ev, name="r/t/epoch3", results=results)
    none = msgspec.structs.replace(ev, name="odd", results=[], verdict="failed")
    text = results_csv(msgspec.structs.replace(whole, evals=[both, none]))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["eval"], row["run"], row["epoch"], row["verdict"]) for row in rows] == [
        ("r/t/epoch3", "r", "3", "ok"),
        ("r/t/epoch3", "r", "3", "ok"),
        ("odd", "", "", "failed"),
    ]
    assert [(row["task"], row["score:match/accuracy"], row["score:f1"]) for row in rows] == [
        ("a, b", "0.6666666666666666", ""),
        ("c", "", "nan"),
        ("odd", "", ""),
    ]
    assert "=cmd" not in text
    assert float(rows[0]["gpu_hours"]) == ev.cost.gpu_hours


def test_names_from_a_log_are_never_formulas_or_control_sequences() -> None:
    whole = summary_of(finished())
    result = EvalResult(status="success", task="=1+1", model="m\x1b[31m", scores={"\x1b]0;x/y": -0.5})
    text = results_csv(
        msgspec.structs.replace(whole, evals=[msgspec.structs.replace(whole.evals[0], results=[result])])
    )
    [row] = csv.DictReader(io.StringIO(text))
    assert ("\x1b" in text, row["task"]) == (False, "'=1+1")
    assert "-0.5" in row.values()


def test_an_empty_experiment_has_the_header() -> None:
    whole = summary_of(finished())
    assert results_csv(msgspec.structs.replace(whole, evals=[])).startswith("eval,run,epoch,verdict,")


def test_the_example_in_the_docs_loads_the_results_into_pandas(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs/reading-the-outcome.md"
    lines = page.read_text().partition("```python\n")[2].partition("```")[0]
    whole = summary_of(finished())
    (tmp_path / "results.csv").write_text(results_csv(whole))
    (tmp_path / "EXP/evalmon").mkdir(parents=True)
    (tmp_path / "EXP/evalmon/summary.json").write_bytes(msgspec.json.encode(whole))
    shown = "print(scores.to_list(), evals['name'].to_list(), attempts['name'].to_list())"
    command = [sys.executable, "-c", lines + shown]
    printed = subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    [ev] = whole.evals
    scores = [f"score:{name}" for name in ev.results[0].scores]
    names = [ev.name] * len(ev.attempts)
    assert printed.splitlines()[-1] == f"{scores} {[ev.name]} {names}"
