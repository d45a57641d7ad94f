"""Which evals took more than one attempt, and how did each end: a section of summary.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.summary.cells import cell
from evalmon_agent.summary.records import AttemptSummary, EvalSummary
from evalmon_agent.words.durations import clock
from evalmon_agent.words.sizes import number


def attempts_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A line for each eval that was requeued, retried or run again by hand; no section if none was."""
    lines = [
        f"* **{cell(ev.name)}**: {', then '.join(map(_told, ev.attempts))}" for ev in evals if len(ev.attempts) > 1
    ]
    return ["## More than one attempt", "\n".join(lines)] if lines else []


def _told(attempt: AttemptSummary) -> str:
    how = ""
    if attempt.signal:
        how = f", signal {number(attempt.signal)}"
    elif attempt.exit_code:
        how = f", exit status {number(attempt.exit_code)}"
    return f"job {cell(attempt.job_id)} {attempt.state or 'unknown'} ({clock(attempt.elapsed_s)}{how})"
