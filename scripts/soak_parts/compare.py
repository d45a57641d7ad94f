"""Compares what evalmon reported with what happened: lost, invented and duplicate entries. Pure."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Literal

from soak_parts.told import Block, Told
from soak_parts.truth import Line, Row, Truth

# Between an eval's last line and the end of its job.
_SLACK_S = 6
Kind = Literal["lost", "invented", "duplicate"]
Change = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """One thing that evalmon did not report as it was."""

    kind: Kind
    what: str


def compare(truths: Sequence[Truth], told: Told) -> list[Finding]:
    """All findings of one experiment. A wrong state, time or exit status counts as invented."""
    return [
        *_of_the_log(truths, told),
        *(finding for truth in truths for finding in _of_eval(truth, told)),
        *_of_the_ends(told.blocks, {truth.name for truth in truths}),
        *_of_the_summary(truths, told),
    ]


def _of_the_log(truths: Sequence[Truth], told: Told) -> Iterator[Finding]:
    names = {truth.name for truth in truths}
    for block in told.blocks:
        if not block.kind:
            yield Finding("invented", f"no block: {block.text[:200]!r}")
        if block.kind in {"STATE_CHANGE", "COMPUTE_METRICS"} and block.subject not in names:
            yield Finding("invented", f"{block.kind} of an eval that is none: {block.subject}")


def _of_eval(truth: Truth, told: Told) -> Iterator[Finding]:
    mine = [block for block in told.blocks if block.subject == truth.name]
    changes = [block for block in mine if block.kind == "STATE_CHANGE"]
    logged = [(block.fields.get("Previous", ""), block.fields.get("Current", "")) for block in changes]
    yield from _difference(truth.name, list(expected(truth)), logged)
    yield from _of_the_times(truth, changes)
    measured = sum(block.kind == "COMPUTE_METRICS" for block in mine)
    least, most = _runs(truth)
    if measured < least:
        yield Finding("lost", f"{truth.name}: {measured} COMPUTE_METRICS of {least}")
    if measured > most:
        yield Finding("duplicate", f"{truth.name}: {measured} COMPUTE_METRICS of {most}")
    if len({line.job_id for line in truth.lines}) > 1:
        yield Finding("duplicate", f"{truth.name}: ran as {sorted({line.job_id for line in truth.lines})}")


def expected(truth: Truth) -> Iterator[list[Change]]:
    """The transitions that must be in the log; several ways where what is known leaves some open.

    Accounting gives a node to a job that was cancelled while it was being launched: it may have run or not. And of one
    that was requeued after its end it tells only that: the end may be in the log, and the REQUEUED too, or not. What
    Slurm forgot is LOST.
    """
    if truth.is_forgotten:
        yield [("PENDING", "LOST")]
        return
    began = {line.restart for line in truth.lines}
    ways = [
        [
            (["PENDING"] if number else []) + (["RUNNING"] if ran else []) + end
            for ran in ((True,) if number in began else ((False, True) if row.has_node else (False,)))
            for end in _ends(truth, row, number)
        ]
        for number, row in enumerate(truth.rows)
    ]
    for way in product(*ways):
        yield list(pairwise(["PENDING", *(state for states in way for state in states)]))


def _ends(truth: Truth, row: Row, number: int) -> Iterator[list[str]]:
    yield [row.state]
    if row.state == "REQUEUED":
        for state in sorted(_ended_first(truth, number)):
            yield [state, "REQUEUED"]
            yield [state]


def _ended_first(truth: Truth, number: int) -> set[str]:
    """How a requeued attempt may have ended before: by its own record, or as the killer found it."""
    own = {line.word for line in truth.lines if line.restart == number} - {"start"}
    return {*truth.requeued_from, *("COMPLETED" if word == "exit:0" else "FAILED" for word in own)}


def _difference(name: str, ways: Sequence[list[Change]], logged: list[Change]) -> Iterator[Finding]:
    """What must be added to the log or removed from it, for the path that needs the least of that."""
    if logged in ways:
        return
    in_log = Counter(logged)
    gaps = [(Counter(way) - in_log, in_log - Counter(way), way) for way in ways]
    missing, more, best = min(gaps, key=lambda gap: gap[0].total() + gap[1].total())
    tail = f" (log: {_path(logged)}; truth: {_path(best)})"
    for change, count in missing.items():
        yield Finding("lost", f"{name}: {count} x {' -> '.join(change)}{tail}")
    for change, count in more.items():
        kind: Kind = "duplicate" if change in best else "invented"
        yield Finding(kind, f"{name}: {count} x {' -> '.join(change)}{tail}")
    if not missing and not more:
        yield Finding("invented", f"{name}: another order{tail}")


def _path(changes: Sequence[Change]) -> str:
    return ">".join([changes[0][0], *(current for _, current in changes)]) if changes else "nothing"


def _of_the_times(truth: Truth, changes: Sequence[Block]) -> Iterator[Finding]:
    """Whether each end has accounting's time; if accounting has forgotten it, a time within its run."""
    ends = {row.ended.replace("T", " ") for row in truth.rows}
    for block in changes:
        said = block.fields.get("Completed")
        if truth.is_forgotten and said == "unknown":
            continue
        if said is not None and said not in ends and not any(_is_within(said, span) for span in _forgotten(truth)):
            yield Finding("invented", f"{truth.name}: Completed: {said}, not in {sorted(ends)}")


def _forgotten(truth: Truth) -> Iterator[tuple[float, float]]:
    """From when to when an attempt may have ended whose end accounting has overwritten by its being requeued.

    Its own last word tells to the second or so; one that was killed has none.
    """
    for number, row in enumerate(truth.rows):
        own = {line.word == "start": line.at for line in truth.lines if line.restart == number}
        if row.state == "REQUEUED" and False in own:
            yield own[False] - 1, own[False] + _SLACK_S
        elif row.state == "REQUEUED" and own and truth.requeued_from:
            yield own[True] - 1, time.mktime(time.strptime(row.ended, "%Y-%m-%dT%H:%M:%S"))


def _is_within(said: str, span: tuple[float, float]) -> bool:
    try:
        return span[0] <= time.mktime(time.strptime(said, "%Y-%m-%d %H:%M:%S")) <= span[1]
    except ValueError:
        return False


def _runs(truth: Truth) -> tuple[int, int]:
    """The minimum and maximum number of attempts that ran."""
    began = {line.restart for line in truth.lines}
    return len(began), sum(number in began or row.has_node for number, row in enumerate(truth.rows))


def _of_the_ends(blocks: Sequence[Block], names: set[str]) -> Iterator[Finding]:
    """ALL_COMPLETE must come only when all known evals are over, once per completion, and last."""
    states: dict[str, str] = {}
    changed = False
    for block in blocks:
        if block.kind == "STATE_CHANGE":
            states[block.subject] = block.fields.get("Current", "")
            changed = True
        elif block.kind == "ALL_COMPLETE":
            active = sorted(name for name, state in states.items() if state in {"PENDING", "RUNNING", "REQUEUED"})
            if active:
                yield Finding("invented", f"ALL_COMPLETE while active: {active}")
            if not changed:
                yield Finding("duplicate", "ALL_COMPLETE twice for one completion")
            changed = False
    if changed or (names and not states):
        yield Finding("lost", "the last ALL_COMPLETE")


def _of_the_summary(truths: Sequence[Truth], told: Told) -> Iterator[Finding]:
    if told.summary.get("complete") is not True:
        yield Finding("lost", "a complete summary.json")
    evals: list[dict[str, Any]] = told.summary.get("evals", [])
    known = {ev["name"]: ev for ev in evals}
    if len(known) < len(evals):
        yield Finding("duplicate", "an eval twice in summary.json")
    yield from (Finding("invented", f"{name} in summary.json") for name in known.keys() - {t.name for t in truths})
    for truth in truths:
        ev = known.get(truth.name)
        saved = told.state.get("evals", {}).get(truth.name)
        if ev is None or saved is None:
            yield Finding("lost", f"{truth.name} in summary.json or state.json")
        elif truth.is_forgotten and {ev["state"], saved["state"]} != {"LOST"}:
            yield Finding("invented", f"{truth.name}: state {ev['state']}, {saved['state']}; Slurm forgot it")
        elif truth.rows:
            yield from _of_the_outcome(truth, ev, saved)


def _of_the_outcome(truth: Truth, ev: dict[str, Any], saved: dict[str, Any]) -> Iterator[Finding]:
    last = truth.rows[-1]
    if {ev["state"], saved["state"]} != {last.state}:
        yield Finding("invented", f"{truth.name}: state {ev['state']}, {saved['state']}; truth: {last.state}")
    if (ev["verdict"] == "ok") != (last.state == "COMPLETED"):
        yield Finding("invented", f"{truth.name}: verdict {ev['verdict']} of {last.state}")
    if ev["job_id"] != last.job_id:
        yield Finding("invented", f"{truth.name}: job {ev['job_id']}; truth: {last.job_id}")
    if len(ev["attempts"]) != len(truth.rows):
        yield Finding("invented", f"{truth.name}: {len(ev['attempts'])} attempts; truth: {len(truth.rows)}")
    of_last = [line for line in truth.lines if line.restart == len(truth.rows) - 1]
    said = (ev["exit_code"], ev["signal"])
    if said not in set(_exits(last, of_last)):
        yield Finding("invented", f"{truth.name}: ended {said}; truth: {sorted(set(_exits(last, of_last)), key=str)}")


def _exits(row: Row, lines: Iterable[Line]) -> Iterator[tuple[int | None, int | None]]:
    """The exit statuses and signals that are true: the script's own word; Slurm's too where that says otherwise.

    A job that did not end by itself and of which Slurm says 0:0 has none, nor has one that never began: of a requeued
    one that was cancelled while it waited Slurm repeats how the run before ended.
    """
    lines = list(lines)
    own = [_own(line.word) for line in lines if line.word != "start"]
    if not lines:
        yield None, None
    for status, signal in own[-1:]:
        yield (None, signal) if signal else (status, None)
    if own[-1:] == [(row.exit_code, row.signal)]:
        return
    if row.exit_code or row.signal or row.state in {"COMPLETED", "FAILED"}:
        yield (None, row.signal) if row.signal and not row.exit_code else (row.exit_code, row.signal or None)
    else:
        yield None, None
    if row.state in {"CANCELLED", "TIMEOUT"}:
        # Accounting says 0:0 of such a one at first, and may correct that minutes later [ran]: unknown is true too.
        yield from ((None, 15), (None, 9), (None, None))


def _own(word: str) -> tuple[int, int]:
    how, _, number = word.partition(":")
    return (int(number), 0) if how == "exit" else (0, int(number))
