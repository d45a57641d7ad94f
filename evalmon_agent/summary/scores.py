"""Lines up scores as people compare them: a row per task, run and metric, a column per epoch. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from evalmon_agent.summary.records import EvalSummary

EPOCHS_AT_MOST = 12
_EPOCH = re.compile(r"(?P<rest>.+)/epoch(?P<epoch>\d{1,9})")
# What tells how far another metric may be off, or spreads, and is no score itself.
_ERRORS = frozenset({"stderr", "bootstrap_stderr"})
_SPREADS = frozenset({"std", "var"})
_MAIN = ("accuracy", "mean")


class Score(Struct, frozen=True):
    """A value with its standard error; None: not a number, or not told."""

    value: float | None
    error: float | None = None

    def __str__(self) -> str:
        """`0.67 ± 0.14`: the error to two digits, and the value as far."""
        if self.value is None:
            return "nan"
        if self.error is None:
            return f"{self.value:.4g}"
        digits = 2 if self.error <= 0 else min(max(1 - math.floor(math.log10(self.error)), 0), 6)
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


class Row(Struct, frozen=True):
    """The scores of one run at one task; `cells`: by epoch (None: the eval has none), a score or why there is none."""

    task: str
    run: str
    metric: str
    cells: dict[int | None, Score | str] = {}

    @property
    def key(self) -> str:
        """The same for the same row of another table."""
        return f"{self.task}\n{self.run}\n{self.metric}"

    @property
    def points(self) -> list[tuple[int, float, float | None]]:
        """Epoch, value and error of each score that is a number, by epoch."""
        scores = ((epoch, cell) for epoch, cell in self.cells.items() if epoch is not None and isinstance(cell, Score))
        return sorted((epoch, cell.value, cell.error) for epoch, cell in scores if cell.value is not None)


class ScoreTable(Struct, frozen=True):
    """The rows by task, metric and run, and the epochs that are columns: the last twelve."""

    epochs: Sequence[int | None]
    rows: Sequence[Row]
    _ranges: Mapping[tuple[str, str], tuple[float, float]]

    def range_of(self, row: Row) -> tuple[float, float]:
        """The lowest and the highest value with its error, of all runs at the row's task and metric."""
        low, high = self._ranges[row.task, row.metric]
        return (low, high) if low < high else (low - 1, high + 1)


def score_table(evals: Sequence[EvalSummary]) -> ScoreTable:
    """The scores of all results; an eval without one leaves a cell that says why in each row of its task and run."""
    rows: dict[tuple[str, str, str], Row] = {}
    metrics: dict[tuple[str, str], list[Row]] = {}
    by_task: dict[str, dict[tuple[str, str], None]] = {}
    for ev in evals:
        run, task, epoch = run_task_epoch(ev.name)
        for name, metric, score in _scores(ev):
            key = (f"{task}: {name}" if name else task, run, metric)
            if key not in rows:
                rows[key] = Row(*key)
                metrics.setdefault((run, task), []).append(rows[key])
                by_task.setdefault(task, {})[key[0], metric] = None
            rows[key].cells[epoch] = score
    for ev in evals:
        run, task, epoch = run_task_epoch(ev.name)
        if (run, task) not in metrics:  # no eval of this run has a score: the metrics of the other runs
            new = [Row(label, run, metric) for label, metric in by_task.get(task, {})]
            metrics[run, task] = new
            rows.update({(row.task, row.run, row.metric): row for row in new})
        for row in metrics[run, task]:
            row.cells.setdefault(epoch, "no score" if ev.verdict == "ok" else ev.verdict)
    epochs = sorted({epoch for row in rows.values() for epoch in row.cells}, key=lambda epoch: (epoch is None, epoch))
    ordered = sorted(rows.values(), key=lambda row: (row.task, row.metric, row.run))
    return ScoreTable(epochs[-EPOCHS_AT_MOST:], ordered, _ranges(ordered))


def _ranges(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[float, float]]:
    ranges = dict[tuple[str, str], tuple[float, float]]()
    for row in rows:
        for _, value, error in row.points:
            low, high = ranges.get((row.task, row.metric), (value, value))
            ranges[row.task, row.metric] = min(low, value - (error or 0)), max(high, value + (error or 0))
    return ranges


def run_task_epoch(name: str) -> tuple[str, str, int | None]:
    """Run, task and epoch of `{run}/{task}/epoch{N}`; of another name what there is of these."""
    match = _EPOCH.fullmatch(name)
    rest, epoch = (match["rest"], int(match["epoch"])) if match else (name, None)
    run, _, task = rest.rpartition("/")
    return run, task, epoch


def _scores(ev: EvalSummary) -> Iterator[tuple[str, str, Score]]:
    """The task (empty where the eval has one result), the metric and the score of each; none of a dropped eval."""
    for result in ev.results if ev.verdict != "dropped" else ():
        task = (result.task or "") if len(ev.results) > 1 else ""
        for metric in result.scores:
            if not _is_error(metric):
                yield task, metric, Score(result.scores[metric], _error_of(metric, result.scores))


def _is_error(name: str) -> bool:
    scorer, _, metric = name.rpartition("/")
    return bool(scorer) and (metric in _ERRORS | _SPREADS or "_stderr" in metric)


def _error_of(name: str, scores: Mapping[str, float | None]) -> float | None:
    """inspect-ai has one `stderr` in a scorer, of its main metric; lm_eval `acc_stderr,none` for `acc,none`."""
    scorer, _, metric = name.rpartition("/")
    word, _, kind = metric.partition(",")
    names = [f"{scorer}/{word}_stderr,{kind}"]
    beside = [other for other in scores if other.rpartition("/")[0] == scorer and not _is_error(other)]
    if metric in _MAIN or beside == [name]:
        names += [f"{scorer}/{error}" for error in sorted(_ERRORS, reverse=True)]
    return next((error for error in map(scores.get, names) if error is not None and error >= 0), None)
