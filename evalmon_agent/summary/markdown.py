"""summary.md: the summary as people read it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.evidence.diagnosis.causes import meaning
from evalmon_agent.evidence.diagnosis.record import UNKNOWN, one_line
from evalmon_agent.summary.cells import cell as _cell
from evalmon_agent.summary.cells import table
from evalmon_agent.summary.markdown_attempts import attempts_section
from evalmon_agent.summary.markdown_results import results_section
from evalmon_agent.summary.markdown_use import advice_section, gpu_section
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.words.durations import clock, total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import human_bytes, number

_BAD = frozenset({"failed", "suspect"})
_FOREIGN_AT_MOST = 20


def render(summary: Summary) -> str:
    """Markdown: the outcome, a table of all evals, what went wrong, where the files are."""
    done = "complete" if summary.complete else "so far"
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.items() if count)
    states = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    count = len(summary.evals)
    sections = [
        f"# Evaluation summary ({done})",
        _heading(summary),
        f"**{count} evaluation{'s' * (count != 1)}: {verdicts or 'none'}** ({states or 'no states'})",
        _table(summary.evals),
        *_problems(summary.evals),
        *results_section(summary.evals),
        *_ignored(summary.evals),
        *attempts_section(summary.evals),
        *advice_section(summary.evals),
        *gpu_section(summary.evals),
    ]
    return "\n\n".join(sections) + "\n"


def _heading(summary: Summary) -> str:
    lines = [
        f"Experiment: {_cell(summary.experiment)}",
        f"Written: {summary.generated_at}",
        f"Total time: {total(summary.total_time_s)}",
    ]
    return "  \n".join(lines)


def _table(evals: Sequence[EvalSummary]) -> str:
    head = [
        "Evaluation",
        "Job",
        "State",
        "Verdict",
        "Exit",
        "Queued",
        "Elapsed / limit",
        "Memory",
        "CPU",
        "GPU",
    ]
    return table(head, [_row(ev) for ev in evals])


def _row(ev: EvalSummary) -> list[str]:
    return [
        _cell(ev.name),
        _cell(ev.job_id or "none"),
        str(ev.state),
        f"**{ev.verdict}**" if ev.verdict in _BAD else ev.verdict,
        _exit(ev),
        clock(ev.queue_s),
        f"{clock(ev.elapsed_s)} / {clock(ev.time_limit_s)}{_share(ev.time_efficiency_pct)}",
        f"{human_bytes(ev.memory_used_bytes)} / {human_bytes(ev.memory_requested_bytes)}",
        number(ev.cpu_efficiency_pct, "%"),
        _gpu(ev),
    ]


def _problems(evals: Sequence[EvalSummary]) -> list[str]:
    """Every eval that failed or is suspect: why, and where its output is."""
    lines = [f"* **{_cell(ev.name)}** ({ev.state}): {'; '.join(_said(ev))}" for ev in evals if ev.verdict in _BAD]
    return ["## To look at", "\n".join(lines)] if lines else []


def _ignored(evals: Sequence[EvalSummary]) -> list[str]:
    """What others left where evals leave theirs: once each, whichever evals it lay beside."""
    found = list(dict.fromkeys(one for ev in evals for one in ev.foreign))
    lines = [
        f"* ignored, because it belongs to {_cell(one.owner)}: {_cell(one.path)}" for one in found[:_FOREIGN_AT_MOST]
    ]
    if len(found) > _FOREIGN_AT_MOST:
        lines.append(f"* (+{len(found) - _FOREIGN_AT_MOST} more)")
    return ["## Files of other users", "\n".join(lines)] if lines else []


def _said(ev: EvalSummary) -> list[str]:
    output = [f"output: {_cell(ev.log)}"] if ev.log is not None else []
    said = [*_ended(ev), *_result(ev), *_diagnosis(ev), *map(_cell, _advice(ev)), *output]
    return said or ["nothing is known of its end"]


def _ended(ev: EvalSummary) -> list[str]:
    if ev.witnesses.agree is False:
        return [f"Slurm says {ev.witnesses.slurm}, the job itself {ev.witnesses.self}"]
    if ev.signal or ev.exit_code:
        return [f"ended by signal {number(ev.signal)}" if ev.signal else f"exit status {number(ev.exit_code)}"]
    return []


def _result(ev: EvalSummary) -> list[str]:
    if ev.result is None:
        explained = ev.verdict != "suspect" or ev.witnesses.agree is False
        return [] if explained else ["no eval log was found"]
    samples = ""
    if ev.result.samples_total is not None:
        samples = f", {number(ev.result.samples_completed)} of {number(ev.result.samples_total)} samples"
    error = f": {_cell(printable(ev.result.error, max_chars=200))}" if ev.result.error else ""
    return [f"the eval's log says {_cell(ev.result.status)}{samples}{error}"]


def _diagnosis(ev: EvalSummary) -> list[str]:
    found = ev.diagnosis
    if found is None:
        return []
    told = {*_ended(ev), ev.result.error if ev.result is not None else None}
    between = "; its output ends: " if found.cause == UNKNOWN else ": "
    evidence = "" if found.evidence is None or found.evidence in told else f"{between}{found.evidence}"
    return [_cell(one_line(f"{meaning(found.cause)}{evidence}"))]


def _advice(ev: EvalSummary) -> Sequence[str]:
    """Of a failure that is understood what helps against it; the rest stands in the JSON."""
    found = ev.diagnosis
    return ev.advice if found is None or found.cause == UNKNOWN or not found.advice else [found.advice]


def _exit(ev: EvalSummary) -> str:
    if ev.signal:
        return f"signal {number(ev.signal)}"
    return number(ev.exit_code)


def _gpu(ev: EvalSummary) -> str:
    return number(None if ev.gpu is None else ev.gpu.utilization_mean_pct, "%")


def _share(percent: float | None) -> str:
    return "" if percent is None else f" ({number(percent, '%')})"
