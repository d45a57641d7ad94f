"""Decides which log is which job's, by proof: every log has at most one owner in an experiment. Pure.

The strongest proof first: the process that was seen to write it, the framework's closing line in the job's output, and
only then the place, where no other program could have written it. What several could have written is nobody's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from evalmon_agent.words.eval_processes import WATCHED_PROGRAMS, WatchedProgram

PROCESS, OUTPUT, PLACE = "process", "output", "place"
"""The proofs, as `known_by` in summary.json says them."""

# `created` is in whole seconds; the file server's clock dates a file's last change.
_CREATED_SLACK_S = 2.0
_CHANGED_SLACK_S = 10.0

IN_MEMORY = "its log is in memory"
AT_A_URL = "its log is at a URL"
GONE = "its log is gone"
NOT_READABLE_HERE = "its log lies where it cannot be read from here"
NOT_TOLD_APART = "its log cannot be told apart from another job's"
NOT_WRITTEN = "no log was written, by choice"
PLACE_UNKNOWN = "where its log lies is not known"
LEFT_OUT = "it ran more evals than are recorded"
NOBODY_SAW = "nobody was in the job to see"


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A log as a process named it: its path if that could be translated, else the name and its directory's digest.

    `is_certain`: the process held a file open whose name has its own pid, rather than one that others may share.
    """

    name: str
    path: str | None = None
    directory_sha256: str | None = None
    is_certain: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedProgram:
    """An eval program as the job's own report has it. Times are epoch seconds; None: not known."""

    kind: str
    started_at: float
    ended_at: float | None = None
    verb: str | None = None
    words: tuple[str, ...] | None = None
    options: Mapping[str, Sequence[str]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    wrote: tuple[Written, ...] = ()
    is_cut: bool = False
    is_in_pid_namespace: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedJob:
    """What is known of one job. `printed`: paths in the frameworks' own closing lines in its output.

    `is_watched`: somebody looked from its start to its end; `left_out`: so many programs are not recorded.
    `names_framework`: its script does, which proves nothing.
    """

    started_at: float
    ended_at: float | None = None
    programs: tuple[ObservedProgram, ...] = ()
    printed: tuple[str, ...] = ()
    is_watched: bool = True
    left_out: int = 0
    names_framework: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundLog:
    """A log that lies there. `created` and `changed_at` (of the file) are epoch seconds; None: not known."""

    path: str
    kind: str
    changed_at: float
    created: float | None = None
    task: str | None = None
    model: str | None = None
    model_args: str | None = None
    task_id: str | None = None
    eval_id: str | None = None
    is_success: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a log is, and the proof; `program` is the place in the job's programs, None where that is not known."""

    job: str
    known_by: str
    program: int | None = None


@dataclass(slots=True)
class JobResults:
    """The logs that are a job's results, each with its proof; why some are unknown; which programs left no log."""

    logs: dict[str, str] = field(default_factory=dict)
    unverified: str | None = None
    without_log: list[int] = field(default_factory=list)


_Claim = tuple[str, int | None]


def owners(jobs: Mapping[str, ObservedJob], logs: Sequence[FoundLog]) -> tuple[dict[str, Owner], dict[str, set[str]]]:
    """The owner of each log that has one, by path; and of each log that several jobs could have written, those jobs."""
    owned: dict[str, Owner] = {}
    contested: dict[str, set[str]] = {}
    for proof, claims in ((PROCESS, _written_by), (OUTPUT, _printed_by), (PLACE, _placed_by)):
        for log in logs:
            if log.path in owned or log.path in contested:
                continue
            log_claims = list(claims(jobs, log))
            claimants = {job for job, _ in log_claims}
            if len(claimants) == 1:
                programs = {program for _, program in log_claims}
                owned[log.path] = Owner(log_claims[0][0], proof, programs.pop() if len(programs) == 1 else None)
            elif claimants:
                contested[log.path] = claimants
    return owned, contested


def results(jobs: Mapping[str, ObservedJob], logs: Sequence[FoundLog]) -> dict[str, JobResults]:
    """What each job has to show."""
    owned, contested = owners(jobs, logs)
    by_path = {log.path: log for log in logs}
    results_by_job: dict[str, JobResults] = {}
    for name, job in jobs.items():
        own = {path: owner for path, owner in owned.items() if owner.job == name}
        job_results = JobResults({path: own[path].known_by for path in _last_attempts([by_path[path] for path in own])})
        disputed = [by_path[path] for path, claimants in contested.items() if name in claimants]
        for number, program in enumerate(job.programs):
            if any(owner.program in {number, None} for owner in own.values()):
                continue
            why = _why_unknown(program, disputed, logs)
            if why is None:
                job_results.without_log.append(number)
            job_results.unverified = job_results.unverified or why or None
        if job.left_out:
            job_results.unverified = job_results.unverified or LEFT_OUT
        if not job.is_watched and job.names_framework and not job_results.logs:
            job_results.unverified = job_results.unverified or NOBODY_SAW
        results_by_job[name] = job_results
    return results_by_job


def _written_by(jobs: Mapping[str, ObservedJob], log: FoundLog) -> Iterator[_Claim]:
    """The programs that were seen to write it; those that held it by their own pid before all others."""
    claims = [
        (written.is_certain, name, number)
        for name, job in jobs.items()
        for number, program in enumerate(job.programs)
        for written in program.wrote
        if program.kind == log.kind and _is_this(written, log) and _may_be_believed(written, program, log)
    ]
    strongest = max((certain for certain, _, _ in claims), default=False)
    yield from ((name, number) for certain, name, number in claims if certain == strongest)


def _is_this(written: Written, log: FoundLog) -> bool:
    if written.path is not None:
        return written.path == log.path
    if written.directory_sha256 is None or written.name != os.path.basename(log.path):
        return False
    directory = os.path.dirname(log.path)
    return written.directory_sha256 in {_sha256(text) for text in (directory, f"file://{quote(directory)}")}


def _may_be_believed(written: Written, program: ObservedProgram, log: FoundLog) -> bool:
    """Its own process's life, and where pids may collide another fact, must agree."""
    if not _is_in_life_of(program, log):
        return False
    if written.is_certain or not program.is_in_pid_namespace:
        return True
    return _is_below(log.path, _directory_of(program)) and _has_its_arguments(program, log)


def _printed_by(jobs: Mapping[str, ObservedJob], log: FoundLog) -> Iterator[_Claim]:
    for name, job in jobs.items():
        if _is_between(log, job.started_at, job.ended_at):
            for path in job.printed:
                relative = path.removeprefix("./")
                if path == log.path or (not path.startswith("/") and log.path.endswith(f"/{relative}")):
                    yield name, None
                    break


def _placed_by(jobs: Mapping[str, ObservedJob], log: FoundLog) -> Iterator[_Claim]:
    """All that could have written it, if one of them is known to write there."""
    claims: list[_Claim] = []
    is_placed = False
    for name, job in jobs.items():
        for number, program in enumerate(job.programs):
            if _could_have_written(program, log):
                claims.append((name, number))
                is_placed |= _is_below(log.path, _directory_of(program))
        may_hide_one = job.left_out or not job.is_watched
        if may_hide_one and _is_between(log, job.started_at, job.ended_at):
            claims.append((name, None))
    if is_placed:
        yield from claims


def _could_have_written(program: ObservedProgram, log: FoundLog) -> bool:
    if program.kind != log.kind or not _is_in_life_of(program, log) or _writes_none(program):
        return False
    is_all_known = any(written.path is not None for written in program.wrote) and not program.is_cut
    directory = _directory_of(program)
    is_elsewhere = directory is not None and not _is_below(log.path, directory)
    return not is_all_known and not is_elsewhere and _has_its_arguments(program, log)


def _has_its_arguments(program: ObservedProgram, log: FoundLog) -> bool:
    """Whether nothing of what the program was told contradicts the log."""
    options = program.options or {}
    model, tasks = options.get("model"), options.get("tasks")
    if model and log.model is not None and log.model not in ",".join(model).split(","):
        return False
    shown = [pair for pair in options.get("model_args", ()) if "=" in pair]
    if log.model_args is not None and not all(pair in log.model_args for pair in shown):
        return False
    names = {name.strip() for name in ",".join(tasks or ()).split(",")} | set(_tasks_in(program.words))
    logs_tasks = {name.strip().rpartition("/")[2] for name in (log.task or "").split(",")}
    is_pattern = any(sign in name for name in names for sign in "*?[")
    names.discard("")
    return not names or log.task is None or is_pattern or not names.isdisjoint(logs_tasks | {log.task})


def _tasks_in(words: Sequence[str] | None) -> Iterator[str]:
    """The tasks that words like `file.py@task` name; nothing if one names a file or directory with any tasks in it."""
    tasks = [word.rpartition("@")[2].rpartition("/")[2] for word in words or () if "@" in word]
    if len(tasks) == len(words or ()):
        yield from tasks


def _directory_of(program: ObservedProgram) -> str | None:
    """Where its logs go; None if that is not known."""
    table, options = _table_of(program.kind), program.options
    if table is None or options is None:
        return None
    given = options.get(table.directory_option)
    if given is None:
        given = [value for value in program.environment.values() if value][:1]
    if not given and (table.settings_option in options or table.default_directory is None):
        return None
    directory = given[-1] if given else table.default_directory or ""
    directory = directory.removeprefix("file://")
    if not os.path.isabs(directory):
        if program.cwd is None or "://" in directory:
            return None
        directory = os.path.join(program.cwd, directory)
    directory = os.path.normpath(directory)
    return os.path.dirname(directory) if directory.endswith(".json") else directory


def _writes_none(program: ObservedProgram) -> bool:
    """Whether it was told no directory, and writes nothing then."""
    table, options = _table_of(program.kind), program.options
    if table is None or options is None or table.default_directory is not None:
        return False
    return table.directory_option not in options and table.settings_option not in options and not program.environment


def _why_unknown(program: ObservedProgram, disputed: Sequence[FoundLog], logs: Sequence[FoundLog]) -> str | None:
    """Why a program without a log of its own may have left one nevertheless; "" if it need not; None if it has none."""
    table = _table_of(program.kind)
    for written in program.wrote:
        if written.path is None:
            return NOT_READABLE_HERE
        if "://" in written.path:
            return IN_MEMORY if written.path.startswith("memory:") else AT_A_URL
    if any(_could_have_written(program, log) or _names(program, log) for log in disputed):
        return NOT_TOLD_APART
    if program.wrote:
        return GONE
    return _why_unwritten(program, table, logs)


def _why_unwritten(program: ObservedProgram, table: WatchedProgram | None, logs: Sequence[FoundLog]) -> str | None:
    """The same of a program that was not seen to write any."""
    options, directory = program.options or {}, _directory_of(program)
    if table is None or program.options is None:
        return PLACE_UNKNOWN
    given = options.get(table.directory_option) or list(program.environment.values())
    if given and "://" in given[-1] and not given[-1].startswith("file://"):
        return IN_MEMORY if given[-1].startswith("memory:") else AT_A_URL
    if directory is None:
        return NOT_WRITTEN if _writes_none(program) else PLACE_UNKNOWN
    if program.verb in table.resuming_verbs:
        before = [log for log in logs if log.kind == program.kind and _is_below(log.path, directory)]
        if before and all(log.is_success for log in before):
            return ""
    return None


def _names(program: ObservedProgram, log: FoundLog) -> bool:
    return any(_is_this(written, log) for written in program.wrote)


def _last_attempts(logs: Sequence[FoundLog]) -> list[str]:
    """Of several attempts at one eval the last, of copies of one log the one that was changed last; paths, by age."""
    by_eval: dict[str, FoundLog] = {}
    for log in sorted(logs, key=lambda log: (log.changed_at, log.path)):
        by_eval[log.eval_id or log.path] = log
    by_task: dict[str, FoundLog] = {}
    for log in sorted(by_eval.values(), key=lambda log: (log.created or 0.0, log.changed_at, log.path)):
        by_task[log.task_id or log.path] = log
    return [log.path for log in by_task.values()]


def _is_in_life_of(program: ObservedProgram, log: FoundLog) -> bool:
    return _is_between(log, program.started_at, program.ended_at)


def _is_between(log: FoundLog, started_at: float, ended_at: float | None) -> bool:
    """Whether the log was begun then; where that is not known, whether its file was last changed then."""
    at, slack_s = (log.changed_at, _CHANGED_SLACK_S) if log.created is None else (log.created, _CREATED_SLACK_S)
    return at >= started_at - slack_s and (ended_at is None or at <= ended_at + slack_s)


def _is_below(path: str, directory: str | None) -> bool:
    return directory is not None and path.startswith(f"{directory.rstrip('/')}/")


def _table_of(kind: str) -> WatchedProgram | None:
    return next((program for program in WATCHED_PROGRAMS if program.kind == kind), None)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
