"""Lists what a person can act on while evals go on: alerts that last, and what Slurm refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalmon_agent.evidence.diagnosis.records import one_line
from evalmon_agent.summary.records import Summary

_NAMES_SHOWN = 3


def attention(summary: Summary, *, refusals: bool = True) -> Iterator[str]:
    """A line for each alert and (unless left out) each refusal; evals with the same one share a line.

    Outside text is as it came.
    """
    by_text: dict[str, list[str]] = {}
    advice: dict[str, str | None] = {}
    for alert in summary.alerts:
        if alert.cleared_at is None:
            by_text.setdefault(alert.text, []).append(alert.name or "")
            advice.setdefault(alert.text, alert.advice)
    for ev in summary.evals if refusals else ():
        if ev.refusal is not None and ev.verdict not in {"active", "dropped"}:
            text = f"refused by Slurm: {one_line(ev.refusal)}"
            by_text.setdefault(text, []).append(ev.name)
            advice.setdefault(text, ev.diagnosis.advice if ev.verdict == "refused" and ev.diagnosis else None)
    for text, names in by_text.items():
        yield f"{_names(names)} {text}" + (f". {advice[text]}" if advice[text] else "")


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
