"""Asks squeue about this user's jobs: the argv, and its rows as records."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalmon_agent.slurm.scontrol import JobDetails, known
from evalmon_agent.words import durations
from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, parse_job_id
from evalmon_agent.words.states import TERMINAL, State, parse_state

# A record starts with \x1e, so that a newline in a name starts none; the name comes last, so that a
# \x1f in it shifts nothing. %V %S %e are epoch seconds by SLURM_TIME_FORMAT=%s (slurm/environment).
_FIELDS = ("%i", "%T", "%V", "%S", "%e", "%M", "%l", "%r", "%N", "%o", "%j")
_FORMAT = "\x1e" + "\x1f".join(_FIELDS)
_RECORD = re.compile(r"\x1e([^\x1e]+)")
# Printed before each cluster's rows if SLURM_CLUSTERS names several, even with -h.
_CLUSTER_LINE = "\nCLUSTER: "

# In the order of JobDetails; the path comes last, like the name.
_PLACES = "\x1e%i\x1f%V\x1f%P\x1f%a\x1f%q\x1f%Z"

_CLOCK = _FIELDS.index("%M")

_NOT_STARTED = frozenset({None, State.PENDING, State.REQUEUED})


@dataclass(frozen=True, slots=True)
class SqueueRow:
    """One job as squeue has it now; times are epoch seconds, unknown is None.

    `state` is None for an unknown state (`state_word` has it); the job is active then.
    `started_at` is None for a job that has not started: what squeue prints there is an estimate, or for
    one cancelled before its start the time of that. `ends_at` of a running job is when its limit is reached.
    `elapsed_s` is None for a job that goes on: a row says something new only when its job is in another state.
    `command` is the script with its arguments, empty for `--wrap` and stdin.
    """

    job_id: JobId
    state: State | None
    state_word: str
    submitted_at: float | None
    started_at: float | None
    ends_at: float | None
    elapsed_s: float | None
    time_limit_s: float | None
    reason: str
    node_list: str
    command: str
    name: str

    @property
    def goes_on(self) -> bool:
        """Whether it is neither over nor being cleaned up after its end."""
        return self.state not in TERMINAL and self.state_word != "COMPLETING"


@dataclass(frozen=True, slots=True)
class SqueueAnswer:
    """All rows that could be read, and how many could not."""

    rows: tuple[SqueueRow, ...]
    bad_rows: int


def argv() -> list[str]:
    """All jobs of this user, also ended ones and those in hidden partitions, one row per array task."""
    return ["squeue", "-a", "-h", "--me", "-r", "-t", "all", "-o", _FORMAT]


def places_argv() -> list[str]:
    """Where all these jobs run."""
    return ["squeue", "-a", "-h", "--me", "-r", "-t", "all", "-o", _PLACES]


def parse_places(text: str) -> list[JobDetails]:
    """The rows of `places_argv()`'s answer, without their outputs, which squeue does not know."""
    rows = (_without_cluster_line(record).removesuffix("\n").split("\x1f") for record in _RECORD.findall(text))
    return [
        JobDetails(job_id, parse_stamp(row[1]), *map(known, row[2:]))
        for row in rows
        if len(row) == _PLACES.count("\x1f") + 1 and (job_id := parse_job_id(row[0])) is not None
    ]


def end_argv(job_id: JobId) -> list[str]:
    """The argv that asks when one job reaches its time limit."""
    return ["squeue", "-a", "-h", "-j", job_id, "-o", "%e"]


class Parser:
    """Parses one answer after another; a row that is the same as in the last answer is the same object."""

    def __init__(self) -> None:
        self._rows: dict[str, SqueueRow] = {}
        """The rows by their records, which for running jobs are taken without the elapsed time."""

    def parse(self, text: str) -> SqueueAnswer:
        """Every row of `argv()`'s answer; an invalid row is counted, not guessed."""
        rows: list[SqueueRow] = []
        by_key: dict[str, SqueueRow] = {}
        noise = _without_cluster_line("\n" + text.partition("\x1e")[0])
        bad_rows = 1 if noise.strip() else 0
        for record in _RECORD.findall(text):
            key, row = record, self._rows.get(record)
            if row is None:
                without_clock = _without_clock(record)
                row = self._rows.get(without_clock) or _row(_without_cluster_line(record).removesuffix("\n"))
                has_clock = row is not None and row.started_at is not None and row.elapsed_s is None
                key = without_clock if has_clock else record
            if row is None:
                bad_rows += 1
            else:
                rows.append(row)
                by_key[key] = row
        self._rows = by_key
        return SqueueAnswer(tuple(rows), bad_rows)


def _without_clock(record: str) -> str:
    fields = record.split("\x1f", _CLOCK + 1)
    return "\x1f".join([*fields[:_CLOCK], *fields[_CLOCK + 1 :]])


def _without_cluster_line(text: str) -> str:
    head, found, cluster = text.rpartition(_CLUSTER_LINE)
    return head if found and len(cluster.split()) == 1 else text


def _row(record: str) -> SqueueRow | None:
    fields = record.split("\x1f", len(_FIELDS) - 1)
    if len(fields) < len(_FIELDS):
        return None
    shown_id, word, submit, start, end, elapsed, limit, reason, node_list, command, name = fields
    job_id = parse_job_id(shown_id)
    if job_id is None or not word.strip():
        return None
    state = parse_state(word)
    started = state not in _NOT_STARTED and not (state in TERMINAL and not node_list)
    return SqueueRow(
        job_id=job_id,
        state=state,
        state_word=word,
        submitted_at=parse_stamp(submit),
        started_at=parse_stamp(start) if started else None,
        ends_at=parse_stamp(end) if state not in _NOT_STARTED else None,
        elapsed_s=durations.parse(elapsed) if started and state in TERMINAL else None,
        time_limit_s=durations.parse(limit),
        reason=reason,
        node_list=node_list,
        command="" if command == "(null)" else command,
        name=name,
    )
