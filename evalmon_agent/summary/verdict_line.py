"""Says in one line whether the evals succeeded, and what needs a person. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evalmon_agent.evidence.diagnosis.causes import phrase, plural
from evalmon_agent.summary.attention import is_unchecked
from evalmon_agent.summary.causes import diagnosis_of
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.tracking.verdict import NEEDS_YOU
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted
from evalmon_agent.words.states import State

_OUTCOMES_AT_MOST = 3
_QUEUED = frozenset({State.PENDING, State.REQUEUED})


def verdict_line(summary: Summary) -> str:
    """For example `7 of 8 evals succeeded; 1 needs you: r16/cap/epoch0 ran out of GPU memory`.

    Dropped evals are left out of all numbers but their own.
    """
    counts = summary.verdicts
    total = len(summary.evals) - counts["dropped"]
    unchecked = sum(is_unchecked(ev) for ev in summary.evals) if counts["unverified"] else 0
    clauses = [_succeeded(counts["ok"], total, is_over=not (counts["active"] or unchecked))]
    if not total and counts["dropped"]:
        clauses = ["No evals left"]
    if troubled := [ev for ev in summary.evals if ev.verdict in NEEDS_YOU]:
        verb = "needs" if len(troubled) == 1 else "need"
        clauses.append(f"{len(troubled)} {verb} you: {_what_happened(troubled)}")
    if unverified := counts["unverified"] - unchecked:
        clauses.append(f"{unverified} could not be verified")
    if unchecked:
        clauses.append(f"{unchecked} not checked yet")
    if counts["active"]:
        clauses.append(_active(summary.evals))
    if dropped := counts["dropped"]:
        clauses.append(f"{dropped} dropped")
    return "; ".join(clauses)


def _succeeded(ok: int, total: int, *, is_over: bool) -> str:
    if not total:
        return "No evals yet"
    if ok == total:
        return f"All {total} evals succeeded" if total > 1 else "The eval succeeded"
    return f"{ok} of {counted(total, 'eval')} succeeded" + ("" if is_over else " so far")


def _what_happened(troubled: Sequence[EvalSummary]) -> str:
    """What happened to them, the most frequent first; the name too if it is only one."""
    if len(troubled) == 1:
        return f"{printable(troubled[0].name)} {_happened(troubled[0])}"
    outcomes = Counter(map(_happened, troubled)).most_common()
    if len(outcomes) == 1:
        return f"all {plural(outcomes[0][0])}"
    most_frequent = outcomes if len(outcomes) <= _OUTCOMES_AT_MOST else outcomes[: _OUTCOMES_AT_MOST - 1]
    parts = [f"{count} {plural(outcome) if count > 1 else outcome}" for outcome, count in most_frequent]
    if rest := len(troubled) - sum(count for _, count in most_frequent):
        parts.append(f"{rest} failed otherwise")
    return ", ".join(parts)


def _happened(ev: EvalSummary) -> str:
    return phrase(diagnosis_of(ev).cause)


def _active(evals: Sequence[EvalSummary]) -> str:
    states = [ev.state for ev in evals if ev.verdict == "active"]
    queued = sum(state in _QUEUED for state in states)
    unsubmitted = sum(state is State.UNSUBMITTED for state in states)
    counts = {
        "running": len(states) - queued - unsubmitted,
        "waiting in the queue": queued,
        "not submitted yet": unsubmitted,
    }
    return ", ".join(f"{count} {words}" for words, count in counts.items() if count)
