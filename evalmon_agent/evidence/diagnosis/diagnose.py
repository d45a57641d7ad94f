"""Diagnoses why an attempt failed: by Slurm's state if that is certain, then by its output, then by its end. Pure.

Without a matching rule the cause stays unknown: no cause is better than a wrong one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from evalmon_agent.evidence.diagnosis.causes import CAUSE_BY_STATE, CAUSES, UNKNOWN, Diagnosis
from evalmon_agent.evidence.diagnosis.output import (
    SLURM,
    STEPD,
    LastWords,
    Line,
    Raised,
    exceptions,
    lines_of,
    unexplained,
    written,
)
from evalmon_agent.evidence.diagnosis.wordings import RULES, Rule
from evalmon_agent.evidence.result import CANCELLED, ERROR, STARTED, SUCCESS, UNREADABLE, EvalResult, whole_s
from evalmon_agent.words.durations import human
from evalmon_agent.words.secrets import masked
from evalmon_agent.words.sizes import number
from evalmon_agent.words.states import TERMINAL, State

_EVIDENCE_CHARS = 300
_LAST_LINES = 3
_LINE_OF_STATE = {
    State.TIMEOUT: re.compile(rf"(?:{SLURM}|srun: ).*DUE TO TIME LIMIT"),
    State.OUT_OF_MEMORY: re.compile(rf"{SLURM}.*(?:oom[_-]kill|Out Of Memory|memory limit)"),
    State.CANCELLED: re.compile(rf"{STEPD}\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT"),
    State.NODE_FAIL: re.compile(rf"{SLURM}.*(?:NODE FAILURE|[Nn]ode failure)"),
    State.PREEMPTED: re.compile(rf"{SLURM}.*DUE TO PREEMPTION"),
}
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
# Which model it is stands in a later line of the message.
_NAMED_BELOW = frozenset({"hub-gated"})
# Before a traceback: the program goes on, or is at its end anyway.
_IS_HARMLESS = re.compile(r"Exception ignored in|.*never retrieved|--- Logging error ---")
# What the output cannot explain: the eval's log has said it.
_SAID_BY_LOG = frozenset({SUCCESS, CANCELLED, UNREADABLE})


@dataclass(frozen=True, slots=True)
class UnopenedFile:
    """What Slurm could not open to start the job: the directory of its output, or its input file; None: unknown.

    `problem`: the system's message about it here; None if it is in order, seen from here.
    """

    what: Literal["output", "input"] = "output"
    path: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended. `state` is Slurm's; `exit_code` and `signal` the command's; unknown is None."""

    state: State | None
    exit_code: int | None = None
    signal: int | None = None
    elapsed_s: float | None = None
    time_limit_s: float | None = None
    cancelled_by: str | None = None
    """Who cancelled it, as text."""
    output: str = ""
    """The end of the job's output."""
    result: EvalResult | None = None
    expects_log: bool = False
    """A program began an eval, and one of its logs is not there."""
    unopened: UnopenedFile | None = None

    @property
    def succeeded(self) -> bool:
        """Whether neither Slurm, nor the command, nor the eval's log reports a failure."""
        log_disagrees = self.expects_log if self.result is None else not self.result.succeeded
        return self.state is State.COMPLETED and not self.exit_code and not self.signal and not log_disagrees


@cache
def _rules() -> Sequence[tuple[Rule, re.Pattern[str]]]:
    """The rules with their patterns, which are compiled when they are first needed."""
    return [(rule, re.compile(rule.wording)) for rule in RULES]


def diagnose(end: AttemptEnd) -> Diagnosis | None:
    """The diagnosis of a failed attempt; None for a successful one, or one that is not over."""
    if end.state not in TERMINAL or (end.succeeded and not ends_in_error(end.output)):
        return None
    lines = lines_of(end.output)
    cause = _cause_of_state(end)
    if cause is not None:
        return _certain(end, cause, lines)
    if end.unopened is not None:
        return _not_started(end.unopened)
    printed = None if _is_explained_by_log(end) else _printed(end, lines)
    return printed or _by_end(end) or _unknown(end, lines)


def cause_of_error(error: str) -> str | None:
    """The cause that an exception shows, as an eval's log has it; None if no rule knows it."""
    match = next(_of_exceptions([written(error)]), None)
    return None if match is None else match.cause


def ends_in_error(output: str) -> bool:
    """Whether a job's output ends in an unhandled error, with no sign that the program went on."""
    lines = lines_of(output)
    raised = [error for error in exceptions(lines) if error.last is not None and error.first is not None]
    if not raised or _IS_HARMLESS.match(lines[max(raised[-1].first or 0, 1) - 1].text):
        return False
    of_tracebacks = {at for error in raised for at in range(error.first or 0, (error.last or 0) + 1)}
    return LastWords(lines, of_tracebacks).include(raised[-1].last or 0, weak=True)


def _is_explained_by_log(end: AttemptEnd) -> bool:
    ended_well = end.state is State.COMPLETED and not end.exit_code and not end.signal
    return ended_well and not end.succeeded and end.result is not None and end.result.status in _SAID_BY_LOG


def _certain(end: AttemptEnd, cause: str, lines: Sequence[Line]) -> Diagnosis:
    pattern = None if end.state is None else _LINE_OF_STATE.get(end.state)
    shown = [line.raw for line in lines if pattern is not None and not line.is_quoted and pattern.match(line.text)]
    words = _state_in_words(end)
    evidence = shown[-1] if shown else words
    if end.cancelled_by is not None and shown and cause == "cancelled":
        evidence = f"{words}: {evidence}"
    return _diagnosis(cause, evidence, advice=_advice_on_time_limit(end))


def _cause_of_state(end: AttemptEnd) -> str | None:
    """The cause, if the state alone decides it."""
    if end.state is State.OUT_OF_MEMORY and end.exit_code == 0 and end.result is not None and end.result.succeeded:
        return "bystander-out-of-memory"
    return CAUSE_BY_STATE.get(end.state) if end.state is not None else None


def _state_in_words(end: AttemptEnd) -> str:
    """What Slurm says, if the job's output has no line about it."""
    if end.state is State.CANCELLED and end.cancelled_by is not None:
        return f"Slurm says CANCELLED by {end.cancelled_by}"
    if end.state is State.LOST:
        return "neither Slurm nor the job itself has been heard of"
    if end.elapsed_s is None:
        return f"Slurm says {end.state}"
    limit = f" of {human(end.time_limit_s)}" if end.state is State.TIMEOUT and end.time_limit_s is not None else ""
    return f"Slurm says {end.state} after {human(end.elapsed_s)}{limit}"


def _advice_on_time_limit(end: AttemptEnd) -> str | None:
    """More specific advice than the cause's, if figures are known."""
    if end.state is not State.TIMEOUT or end.result is None:
        return None
    all_s = whole_s(end.result, end.elapsed_s)
    if all_s is None:
        return None
    done = f"{end.result.samples_completed} of {end.result.samples_total} samples"
    return f"Increase the eval's --time: {done} took {human(end.elapsed_s)}; at this pace all take {human(all_s)}"


def _not_started(unopened: UnopenedFile) -> Diagnosis:
    cause = "output-directory-missing" if unopened.what == "output" else "missing-file"
    place = "" if unopened.path is None else f": {unopened.path}"
    problem = unopened.problem or ("in order here; do the compute nodes see it?" if place else "")
    words = f"Slurm could not open the job's {unopened.what} (0:53){place}"
    return _diagnosis(cause, f"{words}: {problem}" if problem else words)


@dataclass(frozen=True, slots=True)
class _Match:
    rank: int
    cause: str
    line: str
    names: Mapping[str, str]


def _printed(end: AttemptEnd, lines: Sequence[Line]) -> Diagnosis | None:
    """The cause that the output and the eval's own error show: that of the first rule that fits."""
    raised = exceptions(lines)
    of_tracebacks = {at for error in raised for at in range(error.first or 0, (error.last or 0) + 1)}
    suspects = _suspects(lines, of_tracebacks)
    last_words = LastWords(lines, of_tracebacks | suspects.keys())
    final = [error for error in raised if error.last is not None and last_words.include(error.last)]
    alone = unexplained(lines)
    if alone is not None and alone.last not in of_tracebacks:
        final.append(alone)
    if end.result is not None and end.result.status == ERROR and end.result.error:
        final.insert(0, written(end.result.error))
    of_lines = (match for at, match in suspects.items() if last_words.include(at, weak=match.cause in _WEAK))
    matches = [*_of_exceptions(final), *of_lines]
    best = min(matches, key=lambda match: match.rank, default=None)
    if best is not None:
        return _diagnosis(best.cause, best.line, names=best.names)
    return _python_error(next((error for error in reversed(final) if error is not alone), None))


def _of_exceptions(final: Sequence[Raised]) -> Iterator[_Match]:
    for raised in final:
        for rank, (rule, pattern) in enumerate(_rules()):
            if rule.of == "exception" and (match := pattern.search(raised.text)):
                evidence = raised.text if rule.cause in _NAMED_BELOW else raised.line
                yield _Match(rank, rule.cause, evidence, match.groupdict())
                break


def _suspects(lines: Sequence[Line], of_tracebacks: set[int]) -> dict[int, _Match]:
    """The lines that a rule fits, by their number."""
    matches: dict[int, _Match] = {}
    for at, line in enumerate(lines):
        if line.is_quoted or at in of_tracebacks or not line.text:
            continue
        for rank, (rule, pattern) in enumerate(_rules()):
            if rule.of == "line" and (match := pattern.match(line.text)):
                matches[at] = _Match(rank, rule.cause, line.raw, match.groupdict())
                break
    return matches


def _python_error(last: Raised | None) -> Diagnosis | None:
    """An exception that no rule knows: itself, and the place that it came from."""
    if last is None or not last.type:
        return None
    place = f" ({last.frame})" if last.frame is not None else ""
    return _diagnosis("python-error", last.line[:_EVIDENCE_CHARS] + place)


def _by_end(end: AttemptEnd) -> Diagnosis | None:
    """The cause by exit status, signal or the eval's log."""
    signal = end.signal or (end.exit_code - 128 if end.exit_code is not None and end.exit_code > 128 else None)
    if signal in _BY_SIGNAL:
        return _diagnosis(_BY_SIGNAL[signal], _ended(end))
    if end.exit_code in _BY_STATUS:
        return _diagnosis(_BY_STATUS[end.exit_code], _ended(end))
    if end.result is None or end.result.succeeded:
        is_missing = end.state is State.COMPLETED and end.expects_log and not end.exit_code
        return _diagnosis("no-eval-log", "a program began an eval and left no log") if is_missing else None
    result = end.result
    samples = f"{number(result.samples_completed)} of {number(result.samples_total)} samples"
    if result.status in _BY_RESULT:
        return _diagnosis(_BY_RESULT[result.status], result.error or f"its log says {result.status}, {samples}")
    if not result.succeeded:
        return _diagnosis("unfinished-samples", result.failed_samples or f"its log says {result.status}, {samples}")
    return None


def _unknown(end: AttemptEnd, lines: Sequence[Line]) -> Diagnosis:
    last = [masked(line.raw.strip()[:_EVIDENCE_CHARS]) for line in lines if line.raw.strip()][-_LAST_LINES:]
    return Diagnosis(
        cause=UNKNOWN,
        evidence="\n".join(last) or _ended(end),
        advice=CAUSES[UNKNOWN].advice,
    )


def _diagnosis(
    cause: str, evidence: str, *, advice: str | None = None, names: Mapping[str, str] | None = None
) -> Diagnosis:
    captured = defaultdict(lambda: "it", {name: value[:100] for name, value in (names or {}).items() if value})
    return Diagnosis(
        cause=cause,
        evidence=masked(evidence.strip()[:_EVIDENCE_CHARS]),
        advice=advice or CAUSES[cause].advice.format_map(captured),
    )


def _ended(end: AttemptEnd) -> str:
    if end.signal:
        return f"ended by signal {end.signal}"
    return "how it ended is not known" if end.exit_code is None else f"exit status {end.exit_code}"
