"""Shows the summary in a terminal: the verdict, cost, what needs attention, scores, evals, and the next round."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from evalmon_agent.cli.output import Cell, in_bold, table_lines, wrapped
from evalmon_agent.cli.status_view import attention, eval_table
from evalmon_agent.summary.attention import in_order, next_round, verdict_line
from evalmon_agent.summary.markdown import cost_line
from evalmon_agent.summary.records import Summary
from evalmon_agent.summary.scores import score_table
from evalmon_agent.words.durations import total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted

_EVALS_AT_MOST = 50
_ADVICE_AT_MOST = 8
_ADVICE_CHARS = 1000


def report_text(summary: Summary, *, width: int) -> str:
    """All lines; no name is broken. What needs a wider table stands in summary.md only."""
    done = "Monitoring is complete" if summary.complete else "Not all evals are over or measured yet"
    lines = in_bold(wrapped(verdict_line(summary), width))
    lines += wrapped(f"{done}; total time {total(summary.total_time_s)}", width)
    lines += [line for text in cost_line(summary.cost) for line in wrapped(text, width)]
    for title, section in (
        ("Needs attention", [line for item in attention(summary, width, is_brief=False) for line in item]),
        ("Scores", list(_scores(summary, width))),
        ("Evals", list(_evals(summary, width))),
        ("For the next round", list(_advice(summary, width))),
    ):
        if section:
            lines += ["", *in_bold([title]), *section]
    return "\n".join(lines)


def _evals(summary: Summary, width: int) -> Iterator[str]:
    """All, or of many only those that did not succeed, those that need attention first."""
    evals = in_order(summary.evals)
    if len(evals) > _EVALS_AT_MOST:
        evals = [ev for ev in evals if ev.verdict not in {"ok", "dropped"}][:_EVALS_AT_MOST]
    if evals:
        yield from eval_table(evals, width, is_grouped=True)
    if hidden := len(summary.evals) - len(evals):
        yield f"(+{hidden} more; evalmon status --all shows every eval)"


def _scores(summary: Summary, width: int) -> Iterator[str]:
    """A row for each run below its task and metric; where there is no room the first epochs are left out."""
    scores = score_table(summary.evals)
    if not scores.rows:
        return
    epochs = ["Score" if epoch is None else f"Epoch {epoch}" for epoch in scores.epochs]
    rows: list[list[Cell]] = []
    for (task, metric), members in groupby(scores.rows, key=lambda row: (row.task, row.metric)):
        rows.append([(printable(f"{task}, {metric}"), None), *[("", None)] * len(epochs)])
        for row in members:
            cells = [str(row.cells.get(epoch, "")) for epoch in scores.epochs]
            rows.append([(printable(f"  {row.run or 'no run'}"), None), *[(text, None) for text in cells]])
    table = list(table_lines(["Task and run", *epochs], rows, width=width, optional=epochs[:-1]))
    yield from table
    if missing := sum(f"{epoch} " not in f"{table[0]} " for epoch in epochs):
        yield f"({counted(missing, 'epoch')} left out; widen the terminal, or see summary.md)"


def _advice(summary: Summary, width: int) -> Iterator[str]:
    advice = next_round(summary.evals)
    for text, names in advice[:_ADVICE_AT_MOST]:
        which = f"{len(names)} evals, such as {names[0]}" if len(names) > 1 else names[0]
        yield from wrapped(printable(f"* {which}: {text}", max_chars=_ADVICE_CHARS), width, indent="  ")
    if len(advice) > _ADVICE_AT_MOST:
        yield f"(+{len(advice) - _ADVICE_AT_MOST} more; see summary.md)"
