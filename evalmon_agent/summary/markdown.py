"""Writes summary.md. Outside text is made printable, and its markup is escaped. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from evalmon_agent.evidence.gpu_figures import COLUMNS as GPU_COLUMNS
from evalmon_agent.evidence.result import EvalResult, in_words
from evalmon_agent.figures import sampled_memory_note
from evalmon_agent.summary.attention import Group, groups, in_order, next_round, verdict_line
from evalmon_agent.summary.cost import FIGURE_WORDS, KWH_J
from evalmon_agent.summary.records import AttemptSummary, EvalSummary, ExperimentCost, Summary
from evalmon_agent.summary.scores import score_table
from evalmon_agent.tracking.verdict import NEEDS_ATTENTION
from evalmon_agent.words.durations import clock, total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted, human_bytes, number
from evalmon_agent.words.states import State, exit_in_words

_FOREIGN_AT_MOST = 20
_HOST_MEMORY = frozenset({"host-out-of-memory", "bystander-out-of-memory"})
_NAMES_AT_MOST = 3
# Characters that are markup. An underscore inside a word and a bracket that starts no link are not escaped.
_MARKUP = re.compile(r"[\\`*|<&~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")


def render(summary: Summary) -> str:
    """Markdown: the outcome, what needs attention, scores, a table of all evals, and advice for the next round."""
    done = "complete" if summary.complete else "so far"
    sections = [
        f"# Evaluation summary ({done})",
        f"**{cell(verdict_line(summary))}**",
        _heading(summary),
        *_attention_section(summary),
        *_scores_section(summary.evals),
        *_results_section(summary.evals),
        "## Evals",
        _evals_table(in_order(summary.evals)),
        *_foreign_section(summary.evals),
        *_attempts_section(summary.evals),
        *_advice_section(summary.evals),
        *_gpu_section(summary.evals),
    ]
    return "\n\n".join(sections) + "\n"


def _heading(summary: Summary) -> str:
    lines = [
        f"Experiment: {cell(summary.experiment)}",
        f"Written: {summary.generated_at}",
        f"Total time: {total(summary.total_time_s)}",
        *cost_line(summary.cost),
    ]
    return "  \n".join(lines)


def cost_line(cost: ExperimentCost) -> list[str]:
    """One line, if anything is known."""
    wasted = cost.gpu_hours_of_failures
    failures = f" ({number(wasted, digits=2)} of them without a result)" if wasted else ""
    parts = [
        "" if cost.gpu_hours is None else number(cost.gpu_hours, f" GPU-hours{failures}", digits=2),
        "" if cost.cpu_hours is None else number(cost.cpu_hours, " CPU-hours", digits=2),
        "" if cost.energy_j is None else number(cost.energy_j / KWH_J, " kWh", digits=3),
        "" if cost.money is None else number(cost.money, f" {cell(cost.currency)}", digits=2),
    ]
    notes = [f"{FIGURE_WORDS[name]} of {counted(count, 'eval')} unknown" for name, count in cost.evals_left_out.items()]
    notes += [f"no price for: {cell(', '.join(cost.unpriced))}"] if cost.unpriced else []
    figures = ", ".join(filter(None, parts))
    return [f"Cost: {'; '.join([figures or 'unknown', *notes])}"] if figures or notes else []


def _attention_section(summary: Summary) -> list[str]:
    """What went wrong, each cause once: why, what helps, and one of the evals with all that is known of its end."""
    lines = [line for group in groups(summary) for line in _attention(group)]
    return ["## Needs attention", "\n".join(lines)] if lines else []


def _attention(group: Group) -> Iterator[str]:
    loss = f" ({group.loss})" if group.loss else ""
    yield f"* **{cell(group.headline)}**{loss}{f': {cell(group.evidence)}' if group.evidence else ''}"
    yield from (f"  * {cell(advice)}" for advice in group.advice)
    if group.commands:
        yield f"  * {' or '.join(map(_code, group.commands))}"
    if group.evals:
        first, *others = group.evals
        details = [*_problem(first), *([] if group.advice else map(cell, first.advice))]
        yield f"  * {cell(first.name)} ({first.state}): {'; '.join(details) or 'nothing more is known of its end'}"
        names = [cell(ev.name) for ev in others[:_NAMES_AT_MOST]]
        more = f" (+{len(others) - len(names)} more)" if len(others) > len(names) else ""
        yield from [f"  * also {', '.join(names)}{more}"] if names else []


def _code(command: str) -> str:
    return cell(command) if "`" in command else f"`{printable(command)}`"


def _evals_table(evals: Sequence[EvalSummary]) -> str:
    return _table(list(_COLUMNS), [[write(ev) for write in _COLUMNS.values()] for ev in evals])


def _gpu_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A row for each eval whose GPUs were sampled; no section if none was."""
    rows = [[cell(ev.name), *(write(ev.gpu) for write in GPU_COLUMNS.values())] for ev in evals if ev.gpu is not None]
    return ["## GPUs", _table(["Evaluation", *GPU_COLUMNS], rows)] if rows else []


def _scores_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A row for each task, run and metric, a column for each epoch; no section if nothing was scored."""
    scores = score_table(evals)
    head = ["Task", "Run", "Metric", *("Score" if epoch is None else f"Epoch {epoch}" for epoch in scores.epochs)]
    rows = [
        [*map(cell, (row.task, row.run, row.metric)), *(str(row.cells.get(epoch, "")) for epoch in scores.epochs)]
        for row in scores.rows
    ]
    return ["## Scores", _table(head, rows)] if rows else []


def _results_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A row for each log that is an eval's own, and why samples failed; no section if there is none."""
    rows = [[cell(ev.name), *_result_cells(result)] for ev in evals for result in ev.results]
    head = ["Evaluation", "Task", "Model", "Log status", "Samples", "Scores", "Log"]
    failed = [
        f"* **{cell(ev.name)}**, {cell(result.task)}: {cell(result.failed_samples)}"
        for ev in evals
        for result in ev.results
        if result.sample_errors
    ]
    return ["## Results", _table(head, rows), *(["\n".join(failed)] if failed else [])] if rows else []


def _result_cells(result: EvalResult) -> list[str]:
    scores = ", ".join(f"{cell(name)} {value}" for name, value in in_words(result.scores))
    names = [cell(result.task), cell(result.model), cell(result.status)]
    return [*names, result.samples, scores or "not scored", cell(result.log)]


def _attempts_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A line for each eval that was requeued, retried or run again by hand; no section if none was."""
    lines = [
        f"* **{cell(ev.name)}**: {', then '.join(map(_attempt, ev.attempts))}" for ev in evals if len(ev.attempts) > 1
    ]
    return ["## More than one attempt", "\n".join(lines)] if lines else []


def _attempt(attempt: AttemptSummary) -> str:
    parts = [clock(attempt.elapsed_s), exit_in_words(attempt.exit_code, attempt.signal)]
    verdict = f", {attempt.verdict}" if attempt.verdict in {"suspect", "unverified"} else ""
    return f"job {cell(attempt.job_id)} {attempt.state or 'unknown'}{verdict} ({', '.join(filter(None, parts))})"


def _advice_section(evals: Sequence[EvalSummary]) -> list[str]:
    """What successful evals should ask for, each once; the advice for others stands with what went wrong."""
    lines = []
    for advice, names in next_round(evals):
        which = f"{len(names)} evals, such as " if len(names) > 1 else ""
        lines.append(f"* {which}**{cell(names[0])}**: {cell(advice)}")
    return ["## For the next round", "\n".join(lines)] if lines else []


def _foreign_section(evals: Sequence[EvalSummary]) -> list[str]:
    """The files of other users that were ignored, once each, even if beside several evals."""
    files = list(dict.fromkeys(file for ev in evals for file in ev.foreign))
    lines = [
        f"* ignored, because it belongs to {cell(file.owner)}: {cell(file.path)}" for file in files[:_FOREIGN_AT_MOST]
    ]
    if len(files) > _FOREIGN_AT_MOST:
        lines.append(f"* (+{len(files) - _FOREIGN_AT_MOST} more)")
    return ["## Files of other users", "\n".join(lines)] if lines else []


def _problem(ev: EvalSummary) -> list[str]:
    """How it ended, what its results are, and where its output is."""
    output = [f"output: {cell(ev.log)}"] if ev.log is not None else []
    return [*_ended(ev), *_result(ev), *_sampled(ev), *output]


def _ended(ev: EvalSummary) -> list[str]:
    if ev.witnesses.agree is False:
        return [f"Slurm says {ev.witnesses.slurm}, the job itself {ev.witnesses.self}"]
    words = exit_in_words(ev.exit_code, ev.signal)
    return [f"ended by {words}" if ev.signal else words] if words else []


def _result(ev: EvalSummary) -> list[str]:
    if ev.result is None:
        return []
    samples = ""
    if ev.result.samples_total is not None:
        samples = f", {number(ev.result.samples_completed)} of {number(ev.result.samples_total)} samples"
    error = f": {cell(printable(ev.result.error, max_chars=200))}" if ev.result.error else ""
    which = "the eval's log says" if len(ev.results) < 2 else f"the worst of its {len(ev.results)} logs says"
    return [f"{which} {cell(ev.result.status)}{samples}{error}"]


def _sampled(ev: EvalSummary) -> list[str]:
    ran_out = ev.state is State.OUT_OF_MEMORY or (ev.diagnosis is not None and ev.diagnosis.cause in _HOST_MEMORY)
    note = sampled_memory_note(ev.memory_used_bytes, ev.memory_requested_bytes) if ran_out else ""
    return [note] if note else []


def _exit(ev: EvalSummary) -> str:
    return exit_in_words(ev.exit_code, ev.signal) if ev.signal else number(ev.exit_code)


def _share(percent: float | None) -> str:
    return "" if percent is None else f" ({number(percent, '%')})"


def cell(text: str | None) -> str:
    """The text for a cell or a line; `unknown` for None."""
    return "unknown" if text is None else _MARKUP.sub(r"\\\g<0>", printable(text))


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table of finished cells."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


_COLUMNS: dict[str, Callable[[EvalSummary], str]] = {
    "Evaluation": lambda ev: cell(ev.name),
    "Job": lambda ev: cell(ev.job_id or "none"),
    "State": lambda ev: str(ev.state),
    "Verdict": lambda ev: f"**{ev.verdict}**" if ev.verdict in NEEDS_ATTENTION else ev.verdict,
    "Exit": _exit,
    "Queued": lambda ev: clock(ev.queue_s),
    "Elapsed / limit": lambda ev: f"{clock(ev.elapsed_s)} / {clock(ev.time_limit_s)}{_share(ev.time_efficiency_pct)}",
    "Memory": lambda ev: f"{human_bytes(ev.memory_used_bytes)} / {human_bytes(ev.memory_requested_bytes)}",
    "CPU": lambda ev: number(ev.cpu_efficiency_pct, "%"),
    "GPU": lambda ev: number(None if ev.gpu is None else ev.gpu.utilization_mean_pct, "%"),
}
"""The columns of the table of all evals: the heading, and the function for the cell."""
