"""Asks sacct about jobs: the argv, and its rows as one record per attempt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from evalmon_agent.words import durations, sizes
from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, expand_pending, split_step
from evalmon_agent.words.sizes import count
from evalmon_agent.words.states import TERMINAL, State, parse_state

# Known to every sacct since 18.08: one unknown field fails the whole call. JobName last: it may hold
# newlines and delimiters.
FIELDS = tuple(
    """
    JobID JobIDRaw Cluster User State ExitCode DerivedExitCode Submit Start End ElapsedRaw TimelimitRaw AllocCPUS
    NNodes NTasks TotalCPU ReqMem MaxRSS AllocTRES TRESUsageInTot TRESUsageInMax ConsumedEnergyRaw NodeList JobName
    """.split()  # noqa: SIM905 - twenty quoted strings read worse
)
DELIMITER = "\x1f"

# Records that rows of pending tasks may become: ten times the evals of a large experiment.
_MAX_EXPANDED = 100_000

# NO_VAL64 and its neighbours are printed as numbers; this is a gigawatt for three years.
_MOST_ENERGY_J = 10**17

_NOT_OVER = frozenset({State.PENDING, State.RUNNING, State.SUSPENDED})
_SURELY_RAN = frozenset(
    {
        State.REQUEUED,
        State.COMPLETED,
        State.FAILED,
        State.TIMEOUT,
        State.OUT_OF_MEMORY,
        State.NODE_FAIL,
        State.PREEMPTED,
    }
)
_NO_TIME = frozenset({"", "Unknown", "None"})
_NO_NODES = frozenset({"", "None assigned", "(null)", "None", "Unknown"})

# A row that starts must show these on its first line, where they are asked for: a line `123` inside a
# job's name is no row.
_ANCHORS = ("JobID", "JobIDRaw", "State")

_LINE = re.compile(r"[^\n]+")
# What one job's texts may hold; a name has no more.
_MAX_LINES = 1000

Row = Mapping[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SacctJob:
    """One attempt: a job row with its steps folded in. Times are epoch seconds, unknown is None.

    State, elapsed and CPU time are the job row's, memory and energy are the largest step's. `gpus`: by type, `gpu`
    without one, `shard` for parts of GPUs; {}: none, or the cluster does not account for them. `exit_code` and `signal`
    are None for a job that is not over or never ran; `signal` is None too where none ended it.
    `ran` is False for an attempt that never started; its `started_at` is None even where sacct prints one.
    `whole` is False while slurmdbd has only the end of a short job, which it then calls `allocation`, or, after an
    outage, only the start of one that was over when that was sent: a last state without an end [ran, 22.05].
    """

    job_id: JobId
    raw_id: int | None
    cluster: str | None
    user: str | None
    state: State | None
    state_word: str
    exit_code: int | None
    signal: int | None
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    elapsed_s: float | None
    time_limit_s: float | None
    cpus: int | None
    nodes: int | None
    gpus: dict[str, int] | None
    total_cpu_s: float | None
    memory_used_bytes: int | None
    memory_requested_bytes: int | None
    energy_j: float | None
    node_list: str | None
    ran: bool
    name: str | None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class SacctAnswer:
    """All attempts that could be read, in sacct's order, and how many rows could not, or have no job row."""

    jobs: tuple[SacctJob, ...]
    bad_rows: int


def argv(job_ids: Sequence[JobId], *, delimiter: str = DELIMITER) -> list[str]:
    """All attempts of these jobs, with their steps. Run it with `environment.clean`.

    -D shows the attempts before a requeue; no -s, which would narrow the time window.
    """
    which = [f"--delimiter={delimiter}", "-j", ",".join(job_ids)]
    return ["sacct", "-n", "-P", "-D", *which, "-o", ",".join(FIELDS)]


def parse(text: str, *, fields: Sequence[str] = FIELDS, delimiter: str = DELIMITER) -> SacctAnswer:
    """The attempts in sacct's output. Columns and delimiter may differ; what is missing is None."""
    jobs: list[SacctJob] = []
    attempt: list[Row] = []
    bad_rows = 0
    if "JobID" not in fields or not delimiter:
        return SacctAnswer((), len(text.splitlines()))
    for row in _rows(text, fields=fields, delimiter=delimiter):
        parsed = None if row is None else split_step(row["JobID"])
        if row is None:
            bad_rows += 1
        elif parsed is None:
            pending = _pending_range(row, at_most=_MAX_EXPANDED - len(jobs))
            bad_rows += not pending
            jobs += _folded(attempt) + pending
            attempt = []
        elif parsed[1] is None:
            jobs += _folded(attempt)
            attempt = [row]
        elif attempt and split_step(attempt[0]["JobID"]) == (parsed[0], None):
            attempt.append(row)
        else:
            bad_rows += 1
    return SacctAnswer(tuple(jobs + _folded(attempt)), bad_rows)


def _rows(text: str, *, fields: Sequence[str], delimiter: str) -> Iterator[Row | None]:
    """The rows, cut into named columns, None for each that cannot be read; a header line is skipped.

    sacct escapes nothing. A line that starts no row goes on with the one above it: where that one lacks
    columns, in the middle of it; otherwise in its last column, unless it looks like the torn start of a row.
    """
    anchors = [fields.index(name) for name in _ANCHORS if name in fields]
    header = list(fields)
    open_lines: list[str] = []
    columns = 0
    for match in _LINE.finditer(text):
        line = match[0]
        cells = line.split(delimiter)
        if cells[: len(header)] == header:
            continue
        if _starts_row(cells, anchors):
            if open_lines:
                yield _named("\n".join(open_lines), fields, delimiter)
            open_lines, columns = [line], len(cells)
        elif 0 < len(open_lines) < _MAX_LINES and (columns < len(fields) or not _is_torn(cells, anchors)):
            open_lines.append(line)
            columns += len(cells) - 1
        elif line.strip():
            yield None
    if open_lines:
        yield _named("\n".join(open_lines), fields, delimiter)


def _starts_row(cells: list[str], anchors: list[int]) -> bool:
    return len(cells) > max(anchors) and _is_id(cells[anchors[0]])


def _is_torn(cells: list[str], anchors: list[int]) -> bool:
    return len(cells) > 1 and anchors[0] < len(cells) and _is_id(cells[anchors[0]])


def _is_id(text: str) -> bool:
    """Whether the text names a job, a step or a range of pending tasks, complete or cut."""
    head, bracket, tasks = text.partition("_[")
    if bracket:
        return head.isdecimal() and head.isascii() and not set(tasks) - set("0123456789,-:%.]")
    return split_step(text) is not None


def _named(record: str, fields: Sequence[str], delimiter: str) -> Row | None:
    cells = record.split(delimiter, len(fields))
    if len(cells) > len(fields):
        # Too many: without -P each line ends in a delimiter; with it, the name at the end holds some.
        more = cells.pop()
        cells[-1] += delimiter + more if more else ""
    return dict(zip(fields, cells, strict=True)) if len(cells) == len(fields) else None


def _pending_range(row: Row, *, at_most: int) -> list[SacctJob]:
    job_ids = expand_pending(row["JobID"]) or ()
    if not 0 < len(job_ids) <= at_most:
        return []
    first = _job(job_ids[0], row, ())
    return [first, *(replace(first, job_id=job_id) for job_id in job_ids[1:])]


def _folded(attempt: Sequence[Row]) -> list[SacctJob]:
    parsed = split_step(attempt[0]["JobID"]) if attempt else None
    return [] if parsed is None else [_job(parsed[0], attempt[0], attempt[1:])]


def _job(job_id: JobId, row: Row, steps: Sequence[Row]) -> SacctJob:
    state = parse_state(row.get("State", ""))
    elapsed_s = None if state is State.PENDING else _elapsed(row, steps)
    ran = _ran(row, state=state, elapsed_s=elapsed_s, steps=steps)
    over = ran and state not in _NOT_OVER
    exit_code, signal = _exit(row.get("ExitCode", "")) if over else (None, None)
    return SacctJob(
        job_id=job_id,
        raw_id=count(row.get("JobIDRaw", "")),
        cluster=row.get("Cluster") or None,
        user=row.get("User") or None,
        state=state,
        state_word=row.get("State", ""),
        exit_code=exit_code,
        signal=signal,
        submitted_at=parse_stamp(row.get("Submit", "")),
        started_at=_started(row, steps) if ran else None,
        ended_at=None if state in _NOT_OVER else parse_stamp(row.get("End", "")),
        elapsed_s=elapsed_s,
        time_limit_s=_time_limit(row),
        cpus=_cpus(row),
        nodes=_nodes(row),
        gpus=_gpus(row),
        total_cpu_s=_total_cpu_s(row, steps) if ran else None,
        memory_used_bytes=_memory_used_bytes((row, *steps)) if ran else None,
        memory_requested_bytes=_memory_requested_bytes(row),
        energy_j=_energy_j(row, steps),
        node_list=_node_list(row),
        ran=ran,
        name=row.get("JobName"),
        whole=_is_whole(row, state),
    )


def _ran(row: Row, *, state: State | None, elapsed_s: float | None, steps: Sequence[Row]) -> bool:
    if state is State.PENDING:
        return False
    if steps or (elapsed_s or 0) > 0 or state in _NOT_OVER:
        return True
    # Zero seconds: a job that failed at once has nodes, one cancelled in the queue has none.
    return _node_list(row) is not None if "NodeList" in row else state in _SURELY_RAN


def _is_whole(row: Row, state: State | None) -> bool:
    only_end = row.get("JobName") == "allocation" and row.get("TimelimitRaw") == ""
    only_start = state in TERMINAL and row.get("End") in _NO_TIME
    return not only_end and not only_start


def _node_list(row: Row) -> str | None:
    nodes = row.get("NodeList", "")
    return None if nodes in _NO_NODES else nodes


# An attempt requeued within a second or two has steps with times, but a job row without [ran: 22.05].
def _started(row: Row, steps: Sequence[Row]) -> float | None:
    started_at = parse_stamp(row.get("Start", ""))
    if started_at is not None:
        return started_at
    starts = (parse_stamp(step.get("Start", "")) for step in steps)
    return min((start for start in starts if start is not None), default=None)


def _elapsed(row: Row, steps: Sequence[Row]) -> float | None:
    own = _row_elapsed(row)
    return own or max((_row_elapsed(step) or 0.0 for step in steps), default=own)


def _row_elapsed(row: Row) -> float | None:
    raw = count(row.get("ElapsedRaw", ""))
    return durations.parse(row.get("Elapsed", "")) if raw is None else float(raw)


def _time_limit(row: Row) -> float | None:
    if "TimelimitRaw" in row:
        return durations.limit_minutes(row["TimelimitRaw"])
    return durations.parse(row.get("Timelimit", ""))


def _exit(text: str) -> tuple[int | None, int | None]:
    status, _, signal = text.partition(":")
    return count(status), count(signal) or None


def _cpus(row: Row) -> int | None:
    """The allocated CPUs; Slurm counts threads, as seff does."""
    return count(row.get("AllocCPUS", "")) or count(_allocated(row).get("cpu", ""))


def _nodes(row: Row) -> int | None:
    """The allocated nodes."""
    return count(row.get("NNodes", "")) or count(_allocated(row).get("node", ""))


def _gpus(row: Row) -> dict[str, int] | None:
    """The allocated GPUs by type. `gres/gpu:a100=1,gres/gpu=1` is one GPU: the plain count includes the typed ones."""
    allocated = {key: count(value) or 0 for key, value in _allocated(row).items()}
    if not allocated:
        return None
    typed = {key.removeprefix("gres/gpu:"): number for key, number in allocated.items() if key.startswith("gres/gpu:")}
    plain = allocated.get("gres/gpu", 0) - sum(typed.values())
    by_type = {**typed, "gpu": plain, "shard": allocated.get("gres/shard", 0)}
    return {name: number for name, number in by_type.items() if number > 0}


def _energy_j(row: Row, steps: Sequence[Row]) -> float | None:
    """The energy of the nodes, where Slurm measures it; 0 means that it does not.

    Steps run side by side and each counts all of its nodes' energy, so they are not added up.
    """
    measured = (_row_energy(step) for step in steps)
    return max((energy for energy in measured if energy), default=None) or _row_energy(row)


def _row_energy(row: Row) -> float | None:
    energy_j = count(row.get("ConsumedEnergyRaw", ""))
    return float(energy_j) if energy_j and energy_j < _MOST_ENERGY_J else None


def _total_cpu_s(row: Row, steps: Sequence[Row]) -> float | None:
    """CPU seconds of the job row, or the sum of its steps if the row says 0."""
    whole = durations.parse(row.get("TotalCPU", ""))
    if whole:
        return whole
    parts = _known(durations.parse, (step.get("TotalCPU", "") for step in steps))
    return sum(parts) if parts else whole


def _memory_used_bytes(rows: Iterable[Row]) -> int | None:
    """The memory of the largest step; 0 means that it was not measured (host OOM, short jobs)."""
    return max((used for row in rows if (used := _step_memory(row))), default=None)


def _memory_requested_bytes(row: Row) -> int | None:
    """The memory that the job was given; None for `--mem=0`, all of the nodes' memory, which sacct does not show."""
    allocated = sizes.parse_sacct(_allocated(row).get("mem", ""))
    if allocated:
        return allocated
    size, per = sizes.parse_requested(row.get("ReqMem", "")) or (None, None)
    times = {None: 1, "cpu": _cpus(row), "node": _nodes(row)}[per]
    return None if not size or times is None else size * times


def _step_memory(row: Row) -> int | None:
    total = sizes.parse_sacct(_tres(row.get("TRESUsageInTot", "")).get("mem", ""))
    if total:
        return total
    largest = sizes.parse_sacct(row.get("MaxRSS", ""))
    if not largest:
        largest = sizes.parse_sacct(_tres(row.get("TRESUsageInMax", "")).get("mem", ""))
    # MaxRSS is one task's: eight tasks of 1.9 GB need 14.9 GB.
    return None if largest is None else largest * (count(row.get("NTasks", "")) or 1)


def _allocated(row: Row) -> dict[str, str]:
    return _tres(row.get("AllocTRES", ""))


def _tres(text: str) -> dict[str, str]:
    return {key: value for key, equals, value in (part.partition("=") for part in text.split(",")) if equals}


def _known(parse_one: Callable[[str], _T | None], texts: Iterable[str]) -> list[_T]:
    return [value for value in map(parse_one, texts) if value is not None]
