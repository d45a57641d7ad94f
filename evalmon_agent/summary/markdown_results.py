"""What the evals' own logs say: a section of summary.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.summary.cells import cell, table
from evalmon_agent.summary.records import EvalSummary
from evalmon_agent.words.sizes import number

_HEAD = ["Evaluation", "Its log says", "Samples", "Scores"]


def results_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A row for each eval whose log was found; no section if none was."""
    rows = [[cell(ev.name), *_cells(ev.result)] for ev in evals if ev.result is not None]
    return ["## Results", table(_HEAD, rows)] if rows else []


def _cells(result: EvalResult) -> list[str]:
    scores = ", ".join(f"{cell(key)} {value:g}" for key, value in result.scores.items())
    samples = [number(count) for count in (result.samples_completed, result.samples_total)]
    return [cell(result.status), " of ".join(samples), scores or "none"]
