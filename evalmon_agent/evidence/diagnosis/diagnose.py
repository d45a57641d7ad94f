"""Why did an attempt fail: Slurm's word where it is certain, then what was printed, then how it ended. Pure.

What no rule knows stays unknown: no cause is better than a wrong one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis import by_state
from evalmon_agent.evidence.diagnosis.case import Case, Unopened
from evalmon_agent.evidence.diagnosis.causes import CAUSES
from evalmon_agent.evidence.diagnosis.final import Ending
from evalmon_agent.evidence.diagnosis.lines import Line, lines_of
from evalmon_agent.evidence.diagnosis.record import UNKNOWN, Diagnosis
from evalmon_agent.evidence.diagnosis.rules import RULES
from evalmon_agent.evidence.diagnosis.tracebacks import Raised, exceptions, written
from evalmon_agent.evidence.eval_log import CANCELLED, ERROR, STARTED, SUCCESS
from evalmon_agent.evidence.result import UNREADABLE
from evalmon_agent.words.secrets import masked
from evalmon_agent.words.states import TERMINAL, State

_EVIDENCE_CHARS = 300
_LAST_LINES = 3
_BY_SIGNAL = {
    4: "illegal-instruction",
    6: "aborted",
    7: "bus-error",
    9: "killed",
    11: "segmentation-fault",
    15: "terminated",
}
_BY_STATUS = {126: "permission-denied", 127: "command-not-found"}
_BY_RESULT = {
    CANCELLED: "eval-cancelled",
    ERROR: "eval-error",
    STARTED: "eval-unfinished",
    UNREADABLE: "log-unreadable",
}
# A line of a script's many commands, most of which may fail without harm.
_WEAK = frozenset({"missing-file", "permission-denied", "command-not-found", "network"})
# What the output cannot explain: the eval's log has said it.
_SAID_BY_LOG = frozenset({SUCCESS, CANCELLED, UNREADABLE})


def diagnose(case: Case) -> Diagnosis | None:
    """The diagnosis of a failed attempt; None for one that went well or is not over."""
    if case.state not in TERMINAL or case.succeeded:
        return None
    lines = lines_of(case.output)
    cause = by_state.cause_of(case)
    if cause is not None:
        return _certain(case, cause, lines)
    if case.unopened is not None:
        return _not_started(case.unopened)
    found = None if _is_explained_by_log(case) else _printed(case, lines)
    return found or _by_end(case) or _unknown(case, lines)


def _is_explained_by_log(case: Case) -> bool:
    ended_well = case.state is State.COMPLETED and not case.exit_code and not case.signal
    return ended_well and case.result is not None and case.result.status in _SAID_BY_LOG


def _certain(case: Case, cause: str, lines: Sequence[Line]) -> Diagnosis:
    pattern = by_state.shown_by(case.state)
    shown = [line.raw for line in lines if pattern is not None and not line.is_quoted and pattern.match(line.text)]
    words = by_state.in_words(case)
    evidence = shown[-1] if shown else words
    if case.cancelled_by is not None and shown and cause == "cancelled":
        evidence = f"{words}: {evidence}"
    return _diagnosis(cause, evidence, advice=by_state.advice(case))


def _not_started(unopened: Unopened) -> Diagnosis:
    cause = "output-directory-missing" if unopened.what == "output" else "missing-file"
    place = "" if unopened.path is None else f": {unopened.path}"
    problem = unopened.problem or ("in order here; do the compute nodes see it?" if place else "")
    words = f"Slurm could not open the job's {unopened.what} (0:53){place}"
    return _diagnosis(cause, f"{words}: {problem}" if problem else words)


@dataclass(frozen=True, slots=True)
class _Match:
    rank: int
    line: str
    names: Mapping[str, str]


def _printed(case: Case, lines: Sequence[Line]) -> Diagnosis | None:
    """What the output and the eval's own error show, the rule that stands first before all others."""
    raised = exceptions(lines)
    theirs = {number for one in raised for number in range(one.first or 0, (one.last or 0) + 1)}
    suspects = _suspects(lines, theirs)
    ending = Ending(lines, theirs | suspects.keys())
    final = [one for one in raised if one.last is not None and ending.holds(one.last)]
    if case.result is not None and case.result.status == ERROR and case.result.error:
        final.insert(0, written(case.result.error))
    shown = (m for number, m in suspects.items() if ending.holds(number, weak=RULES[m.rank].cause in _WEAK))
    matches = [*_of_exceptions(final), *shown]
    best = min(matches, key=lambda match: match.rank, default=None)
    if best is not None:
        return _diagnosis(RULES[best.rank].cause, best.line, names=best.names)
    return _python_error(final[-1] if final else None)


def _of_exceptions(final: Sequence[Raised]) -> Iterator[_Match]:
    for raised in final:
        for rank, rule in enumerate(RULES):
            if rule.of == "exception" and (match := rule.pattern.search(raised.text)):
                yield _Match(rank, raised.line, match.groupdict())
                break


def _suspects(lines: Sequence[Line], theirs: set[int]) -> dict[int, _Match]:
    """The lines that look like the end of something, by their number."""
    found: dict[int, _Match] = {}
    for number, line in enumerate(lines):
        if line.is_quoted or number in theirs or not line.text:
            continue
        for rank, rule in enumerate(RULES):
            if rule.of == "line" and (match := rule.pattern.match(line.text)):
                found[number] = _Match(rank, line.raw, match.groupdict())
                break
    return found


def _python_error(last: Raised | None) -> Diagnosis | None:
    """An exception that no rule knows: itself, and the place that it came from."""
    if last is None or not last.type:
        return None
    place = f" ({last.frame})" if last.frame is not None else ""
    return _diagnosis("python-error", last.line[:_EVIDENCE_CHARS] + place)


def _by_end(case: Case) -> Diagnosis | None:
    """What exit status, signal and the eval's log leave."""
    signal = case.signal or (case.exit_code - 128 if case.exit_code is not None and case.exit_code > 128 else None)
    if signal in _BY_SIGNAL:
        return _diagnosis(_BY_SIGNAL[signal], _ended(case))
    if case.exit_code in _BY_STATUS:
        return _diagnosis(_BY_STATUS[case.exit_code], _ended(case))
    if case.result is None:
        is_missing = case.state is State.COMPLETED and case.expects_log and not case.exit_code
        return _diagnosis("no-eval-log", "no log of the eval was found") if is_missing else None
    result = case.result
    samples = f"{_number(result.samples_completed)} of {_number(result.samples_total)} samples"
    if result.status in _BY_RESULT:
        return _diagnosis(_BY_RESULT[result.status], result.error or f"its log says {result.status}, {samples}")
    if not result.succeeded:
        return _diagnosis("unfinished-samples", f"its log says {result.status}, {samples}")
    return None


def _unknown(case: Case, lines: Sequence[Line]) -> Diagnosis:
    last = [masked(line.raw.strip()[:_EVIDENCE_CHARS]) for line in lines if line.raw.strip()][-_LAST_LINES:]
    return Diagnosis(
        cause=UNKNOWN,
        evidence="\n".join(last) or _ended(case),
        advice=CAUSES[UNKNOWN].advice,
    )


def _diagnosis(
    cause: str, evidence: str, *, advice: str | None = None, names: Mapping[str, str] | None = None
) -> Diagnosis:
    found = defaultdict(lambda: "it", {name: value[:100] for name, value in (names or {}).items() if value})
    return Diagnosis(
        cause=cause,
        evidence=masked(evidence.strip()[:_EVIDENCE_CHARS]),
        advice=advice or CAUSES[cause].advice.format_map(found),
    )


def _ended(case: Case) -> str:
    if case.signal:
        return f"ended by signal {case.signal}"
    return "how it ended is not known" if case.exit_code is None else f"exit status {case.exit_code}"


def _number(value: int | None) -> str:
    return "unknown" if value is None else str(value)
