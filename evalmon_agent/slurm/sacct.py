"""Asks sacct about jobs: the argv of each question, and its rows as records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evalmon_agent.slurm.scontrol import JobDetails, known
from evalmon_agent.words import durations, sizes
from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, expand_pending, parse_job_id, split_step
from evalmon_agent.words.sizes import count
from evalmon_agent.words.states import TERMINAL, State, parse_state

# One unknown field fails the whole call. These are known to every sacct since 18.08.
FIELDS = tuple(
    """
    JobID User State ExitCode Submit Start End ElapsedRaw TimelimitRaw AllocCPUS NNodes NTasks TotalCPU ReqMem MaxRSS
    AllocTRES TRESUsageInTot TRESUsageInMax ConsumedEnergyRaw NodeList JobName
    """.split()  # noqa: SIM905 - twenty quoted strings read worse
)
PLACES = ("JobID", "Submit", "Partition", "Account", "QOS", "WorkDir")
OUTPUTS = (*PLACES, "User", "JobName", "StdOut", "StdErr")
"""The last two since 24.05."""
SUBMIT_LINE = ("JobID", "SubmitLine")
"""Since 21.08."""

# Without -s a window leaves out what never became eligible, such as a held job that was cancelled; with it, -E is
# needed [ran, 22.05]. Jobs that are not over are squeue's to tell.
_OVER = "BF,CA,CD,DL,F,NF,OOM,PR,TO"
_UNKNOWN_FIELD = re.compile(r"Invalid field requested", re.IGNORECASE)

# Records that rows of pending tasks may become: ten times the evals of a large experiment.
_MAX_EXPANDED = 100_000

# NO_VAL64 and its neighbours are printed as numbers; this is a gigawatt for three years.
_MOST_ENERGY_J = 10**17

_NOT_OVER = frozenset({State.PENDING, State.RUNNING, State.SUSPENDED})
_NO_TIME = frozenset({"", "Unknown", "None"})
_NO_NODES = frozenset({"", "None assigned", "(null)", "None", "Unknown"})

Row = Mapping[str, str]


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


def argv(fields: Sequence[str], which: Sequence[str], *, delimiter: str) -> list[str]:
    """All attempts of the jobs that `which` selects. Run it with `environment.clean`.

    -D shows the attempts before a requeue; no -s, which would narrow the time window.
    """
    return ["sacct", "-n", "-p", "-D", f"--delimiter={delimiter}", *which, "-o", ",".join(fields)]


def by_id(job_ids: Sequence[JobId]) -> list[str]:
    """Selects jobs, with their steps."""
    return ["-j", ",".join(job_ids)]


def ended_lately(*, user_id: int, since_s: int) -> list[str]:
    """Selects a user's jobs that ended during the last `since_s` seconds; an hour more, for clocks that differ."""
    return ["-X", "-u", str(user_id), "-S", f"now-{since_s}seconds", "-E", "now+3600seconds", "-s", _OVER]


def is_unknown_field(words: str) -> bool:
    """Whether sacct is too old to know a field."""
    return _UNKNOWN_FIELD.search(words) is not None


def rows(text: str, fields: Sequence[str], *, delimiter: str) -> Iterator[Row | None]:
    """The rows of the answer, None for each that cannot be read.

    With -p each row ends with the delimiter, which is random: whatever stands in a name, a row is found by it.
    """
    for record in text.split(f"{delimiter}\n"):
        cells = record.split(delimiter)
        # A site's wrapper may print lines of its own.
        cells[0] = cells[0].rpartition("\n")[2]
        if len(cells) == len(fields):
            yield dict(zip(fields, cells, strict=True))
        elif record.strip():
            yield None


def parse(rows: Iterable[Row | None]) -> SacctAnswer:
    """The attempts in sacct's rows; what is missing is None."""
    jobs: list[SacctJob] = []
    attempt: list[Row] = []
    bad_rows = 0
    for row in rows:
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


def parse_places(rows: Iterable[Row | None]) -> list[JobDetails]:
    """Where jobs run or ran, and the patterns of their output as they were given. Steps are left out."""
    return [job for row in rows if row is not None for job in _details(row)]


def _details(row: Row) -> list[JobDetails]:
    names = {"%x": row.get("JobName", "").replace("%", "%%"), "%u": row.get("User", "")}
    outputs = (re.sub("%[xu]", lambda match: names[match[0]], row.get(name, "")) for name in ("StdOut", "StdErr"))
    directory = row["WorkDir"]
    paths = [directory, *(output and os.path.join(directory, output) for output in outputs)]
    where = [known(row[name]) for name in ("Partition", "Account", "QOS")]
    whole = [path if path.startswith("/") else None for path in paths]
    return [
        JobDetails(job_id, parse_stamp(row["Submit"]), *where, *whole) for job_id in expand_pending(row["JobID"]) or ()
    ]


def parse_submit_lines(rows: Iterable[Row | None], *, tokens: Collection[str]) -> dict[str, JobId]:
    """{token: job id (of the array, if it is one)} for each token in a submitted script's path."""
    job_ids: dict[str, JobId] = {}
    for row in rows:
        job_id = None if row is None else parse_job_id(re.split("[_+]", row["JobID"])[0])
        for token in tokens:
            if row is not None and job_id is not None and f"/{token}/" in row["SubmitLine"]:
                job_ids.setdefault(token, job_id)
    return job_ids


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
        user=row.get("User") or None,
        state=state,
        state_word=row.get("State", ""),
        exit_code=exit_code,
        signal=signal,
        submitted_at=parse_stamp(row.get("Submit", "")),
        started_at=_started(row, steps) if ran else None,
        ended_at=None if state in _NOT_OVER else parse_stamp(row.get("End", "")),
        elapsed_s=elapsed_s,
        time_limit_s=durations.limit_minutes(row.get("TimelimitRaw", "")),
        cpus=count(row.get("AllocCPUS", "")),
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
    return _node_list(row) is not None


def _is_whole(row: Row, state: State | None) -> bool:
    only_end = row.get("JobName") == "allocation" and row.get("TimelimitRaw") == ""
    only_start = state in TERMINAL and row.get("End") in _NO_TIME
    return not only_end and not only_start


def _node_list(row: Row) -> str | None:
    nodes = row.get("NodeList", "")
    return None if nodes in _NO_NODES else nodes


# An attempt requeued within a second or two has steps with times, but a job row without [ran: 22.05].
def _started(row: Row, steps: Sequence[Row]) -> float | None:
    return parse_stamp(row.get("Start", "")) or min(_values(steps, "Start", parse_stamp), default=None)


def _elapsed(row: Row, steps: Sequence[Row]) -> float | None:
    own = count(row.get("ElapsedRaw", ""))
    elapsed_s = own or max(_values(steps, "ElapsedRaw", count), default=own)
    return None if elapsed_s is None else float(elapsed_s)


def _values(rows: Iterable[Row], field: str, parse: Callable[[str], float | None]) -> list[float]:
    """What the rows have in a field, without 0, by which sacct says that it has no value."""
    return [value for row in rows if (value := parse(row.get(field, "")))]


def _exit(text: str) -> tuple[int | None, int | None]:
    status, _, signal = text.partition(":")
    return count(status), count(signal) or None


def _gpus(row: Row) -> dict[str, int] | None:
    """The allocated GPUs by type. `gres/gpu:a100=1,gres/gpu=1` is one GPU: the plain count includes the typed ones."""
    allocated = {key: count(value) or 0 for key, value in _tres(row.get("AllocTRES", "")).items()}
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
    largest = max(_values(steps, "ConsumedEnergyRaw", _joules), default=None)
    return largest or _joules(row.get("ConsumedEnergyRaw", ""))


def _joules(text: str) -> float | None:
    energy_j = count(text)
    return float(energy_j) if energy_j and energy_j < _MOST_ENERGY_J else None


def _total_cpu_s(row: Row, steps: Sequence[Row]) -> float | None:
    """CPU seconds of the job row, or the sum of its steps if the row says 0."""
    whole = durations.parse(row.get("TotalCPU", ""))
    if whole:
        return whole
    parts = [part for step in steps if (part := durations.parse(step.get("TotalCPU", ""))) is not None]
    return sum(parts) if parts else whole


def _memory_used_bytes(rows: Iterable[Row]) -> int | None:
    """The memory of the largest step; 0 means that it was not measured (host OOM, short jobs)."""
    return max((used for row in rows if (used := _step_memory(row))), default=None)


def _memory_requested_bytes(row: Row) -> int | None:
    """The memory that the job was given; None for `--mem=0`, all of the nodes' memory, which sacct does not show."""
    allocated = sizes.parse_sacct(_tres(row.get("AllocTRES", "")).get("mem", ""))
    if allocated:
        return allocated
    size, per = sizes.parse_requested(row.get("ReqMem", "")) or (None, None)
    times = {None: 1, "cpu": count(row.get("AllocCPUS", "")), "node": count(row.get("NNodes", ""))}[per]
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


def _tres(text: str) -> dict[str, str]:
    return {key: value for key, equals, value in (part.partition("=") for part in text.split(",")) if equals}
