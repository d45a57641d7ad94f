"""Decides which log is which job's, by proof: every log has at most one owner in an experiment. Pure.

The strongest proof first: the process that was seen to write it, the framework's closing line in the job's output, and
only then the place, where no other program could have written it. What several could have written is nobody's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

from msgspec.structs import replace

from evalmon_agent.evidence.kinds import BY_NAME
from evalmon_agent.evidence.kinds.kind import Kind, ObservedProgram, Written
from evalmon_agent.evidence.result import SUCCESS, EvalLog

PROCESS, OUTPUT, PLACE = "process", "output", "place"
"""The proofs, as `known_by` in summary.json says them."""

# `created` is in whole seconds; the file server's clock dates a file's last change.
_CREATED_SLACK_S = 2.0
_CHANGED_SLACK_S = 10.0

IN_MEMORY = "its log is in memory"
AT_A_URL = "its log is at a URL"
GONE = "its log is gone"
NOT_READABLE_HERE = "its log lies where it cannot be read from here"
NOT_TOLD_APART = "its log cannot be told apart from another eval's"
NOT_WRITTEN = "no log was written, by choice"
PLACE_UNKNOWN = "where its log lies is not known"
LEFT_OUT = "it ran more evals than are recorded"
NOBODY_SAW = "nobody was in the job to see"
NOT_ALL_NODES_SEEN = "nobody was on all its nodes to see"

_Job = TypeVar("_Job", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedJob:
    """What is known of one job. `printed`: paths in the frameworks' own closing lines in its output.

    `is_watched`: somebody looked from its start to its end, but not on `nodes_unseen` of its nodes; `left_out`: how
    many programs are not recorded; `names_framework`: its script names an eval framework, which proves nothing;
    `not_all_read`: why some files that may be its logs were not read.
    """

    started_at: float
    ended_at: float | None = None
    programs: Sequence[ObservedProgram] = ()
    printed: Sequence[str] = ()
    is_watched: bool = True
    nodes_unseen: int = 0
    left_out: int = 0
    names_framework: bool = False
    not_all_read: str | None = None


@dataclass(frozen=True, slots=True)
class Owner(Generic[_Job]):
    """Whose a log is, and the proof; `program` is the place in the job's programs, None where that is not known."""

    job: _Job
    known_by: str
    program: int | None = None


@dataclass(slots=True)
class JobResults:
    """The logs that are a job's results, each with its proof; why some are unknown; which programs left no log."""

    logs: dict[str, str] = field(default_factory=dict)
    unverified: str | None = None
    without_log: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Claim(Generic[_Job]):
    """A job that may have written a log. `program`: which of its programs, None: one that nobody saw."""

    job: _Job
    program: int | None
    started_at: float
    ended_at: float | None


def owners(
    jobs: Mapping[_Job, ObservedJob], logs: Sequence[EvalLog]
) -> tuple[dict[str, Owner[_Job]], dict[str, set[_Job]]]:
    """The owner of each log that has one, by path; and of each log that several jobs could have written, those jobs."""
    claims = _Claims(jobs)
    owned: dict[str, Owner[_Job]] = {}
    contested: dict[str, set[_Job]] = {}
    for log in logs:
        for proof, claims_of in ((PROCESS, claims.by_process), (OUTPUT, claims.by_output), (PLACE, claims.by_place)):
            log_claims = list(claims_of(log))
            claimants = {claim.job for claim in log_claims}
            if len(claimants) == 1:
                programs = {claim.program for claim in log_claims}
                owned[log.path] = Owner(log_claims[0].job, proof, programs.pop() if len(programs) == 1 else None)
            elif claimants:
                contested[log.path] = claimants
            if claimants:
                break
    return owned, contested


def results(jobs: Mapping[_Job, ObservedJob], logs: Sequence[EvalLog]) -> dict[_Job, JobResults]:
    """What each job has to show."""
    owned, contested = owners(jobs, logs)
    by_path = {log.path: log for log in logs}
    own: dict[_Job, dict[str, Owner[_Job]]] = defaultdict(dict)
    disputed: dict[_Job, list[EvalLog]] = defaultdict(list)
    for path, owner in owned.items():
        own[owner.job][path] = owner
    for path, claimants in contested.items():
        for name in claimants:
            disputed[name].append(by_path[path])
    resumed = _Resumed(logs)
    proved = {path for path, owner in owned.items() if _is_proved(path, jobs[owner.job])}
    found = {
        name: _results_of(
            _without_others_logs(job, proved, own.get(name, {}), by_path),
            own.get(name, {}),
            disputed.get(name, []),
            by_path,
            resumed,
        )
        for name, job in jobs.items()
    }
    nobodys = [log for log in logs if log.path not in owned]
    for name, job in jobs.items():
        twins = [twin_of(program, job.started_at, job.ended_at) for program in job.programs if job.nodes_unseen]
        if any(could_have_written(twin, log) for twin in twins for log in nobodys):
            found[name].unverified = found[name].unverified or NOT_ALL_NODES_SEEN
    return found


def _is_proved(path: str, job: ObservedJob) -> bool:
    """Whether one of the job's processes had the log itself open."""
    return any(each.is_certain and is_this(each, path) for program in job.programs for each in program.wrote)


def _without_others_logs(
    job: ObservedJob, proved: Container[str], own: Container[str], by_path: Mapping[str, EvalLog]
) -> ObservedJob:
    """The job without logs of others: pid 1 of each pid namespace writes to one file, if they share a home."""

    def may_be_of(program: ObservedProgram, written: Written) -> bool:
        log = None if written.path is None else by_path.get(written.path)
        if log is None or written.is_certain or not program.is_in_pid_namespace:
            return True
        is_anothers = log.path in proved and log.path not in own
        return not is_anothers and _is_between(log, program.started_at, program.ended_at)

    programs = [
        replace(program, wrote=tuple(written for written in program.wrote if may_be_of(program, written)))
        for program in job.programs
    ]
    return dataclasses.replace(job, programs=programs)


def _results_of(
    job: ObservedJob,
    own: Mapping[str, Owner[_Job]],
    disputed: Sequence[EvalLog],
    by_path: Mapping[str, EvalLog],
    resumed: _Resumed,
) -> JobResults:
    known_by = {path: owner.known_by for path, owner in own.items()}
    results_of_job = JobResults()
    reasons: list[str] = []
    of_any = {path for path, owner in own.items() if owner.program is None}
    printed = [by_path[path] for path, owner in own.items() if owner.known_by == OUTPUT]
    needing_any = 0
    for number, program in enumerate(job.programs):
        before = resumed.by(program)
        complete = [log for log in before if log.status == SUCCESS]
        known_by = {log.path: PLACE for log in complete} | known_by
        is_complete = bool(before) and len(complete) == len(before)
        its_own = {path for path, owner in own.items() if _is_of(owner, number, program, by_path[path])}
        if its_own:
            why = _why_not_whole(program, known_by, disputed, job.not_all_read)
            needing_any += its_own <= of_any
        elif is_complete:
            continue
        else:
            why = _why_unknown(program, [*disputed, *printed], job.not_all_read)
            results_of_job.without_log += [number] if why is None else []
        reasons += [why] if why else []
    reasons += [NOT_TOLD_APART] if needing_any > len(of_any) else []
    reasons += [LEFT_OUT] if job.left_out else []
    reasons += [job.not_all_read] if job.not_all_read is not None and not _are_all_read(job, by_path) else []
    if job.names_framework and not own and (job.nodes_unseen or not job.is_watched):
        reasons.append(NOT_ALL_NODES_SEEN if job.is_watched else NOBODY_SAW)
    results_of_job.logs = {path: known_by[path] for path in _last_attempts([by_path[path] for path in known_by])}
    results_of_job.unverified = reasons[0] if reasons else None
    return results_of_job


def _are_all_read(job: ObservedJob, logs: Container[str]) -> bool:
    """Whether all logs of its programs are known by their paths, and those that lie here were read."""
    paths = [written.path for program in job.programs for written in program.wrote if written.path is not None]
    is_all_known = job.is_watched and all(writes_elsewhere(each) and not each.is_cut for each in job.programs)
    return is_all_known and all(path in logs for path in paths if "://" not in path)


def could_have_written(program: ObservedProgram, log: EvalLog) -> bool:
    """Whether nothing that is known of both contradicts it: time, place, model, tasks and arguments."""
    kind = BY_NAME.get(program.kind)
    if kind is None or kind.name != log.kind or not _is_between(log, program.started_at, program.ended_at):
        return False
    directory = kind.directory_of(program)
    is_elsewhere = directory is not None and not _is_below(log.path, directory)
    return not writes_elsewhere(program) and not is_elsewhere and kind.agrees(program, log)


def twin_of(program: ObservedProgram, started_at: float, ended_at: float | None) -> ObservedProgram:
    """The same command on a node where nobody looked, where a step of a job that lived so long may have run it too."""
    return replace(program, started_at=started_at, ended_at=ended_at, wrote=(), is_cut=False)


def writes_elsewhere(program: ObservedProgram) -> bool:
    """Whether all its logs are known by their paths, or it writes none, or was told a URL."""
    kind = BY_NAME.get(program.kind)
    is_all_known = any(written.path is not None for written in program.wrote) and not program.is_cut
    return is_all_known or (kind is not None and (kind.writes_none(program) or _is_told_url(program, kind)))


def _is_told_url(program: ObservedProgram, kind: Kind) -> bool:
    given = kind.given_directory(program) or ""
    return "://" in given and not given.startswith("file://")


def is_this(written: Written, path: str) -> bool:
    """Whether a process named this path: as such, or by its name and its directory's digest."""
    if written.path is not None:
        return written.path == path
    if written.directory_sha256 is None or written.name != os.path.basename(path):
        return False
    directory = os.path.dirname(path)
    texts = (directory.encode(errors="surrogateescape"), f"file://{quote(directory)}".encode())
    return written.directory_sha256 in {hashlib.sha256(text).hexdigest() for text in texts}


class _Claims(Generic[_Job]):
    """All that jobs may have written, found by path, name, directory and time."""

    def __init__(self, jobs: Mapping[_Job, ObservedJob]) -> None:
        self._jobs = jobs
        self._written: dict[str, list[tuple[Written, _Claim[_Job]]]] = defaultdict(list)
        self._printed: dict[str, list[_Job]] = defaultdict(list)
        by_directory: dict[str | None, list[_Claim[_Job]]] = defaultdict(list)
        unseen: list[_Claim[_Job]] = []
        for name, job in jobs.items():
            for path in job.printed:
                self._printed[path].append(name)
            if job.left_out or not job.is_watched:
                unseen.append(_Claim(name, None, job.started_at, job.ended_at))
            for number, program in enumerate(job.programs):
                claim = _Claim(name, number, program.started_at, program.ended_at)
                for written in program.wrote:
                    self._written[os.path.basename(written.path or written.name)].append((written, claim))
                if not writes_elsewhere(program):
                    by_directory[_directory_of(program)].append(claim)
        self._by_directory = {directory: _ByTime(claims) for directory, claims in by_directory.items()}
        self._unseen = _ByTime(unseen)

    def by_process(self, log: EvalLog) -> Iterator[_Claim[_Job]]:
        """The programs that were seen to write it; those that held it by their own pid before all others."""
        claims = [
            (written, claim)
            for written, claim in self._written.get(os.path.basename(log.path), ())
            if is_this(written, log.path) and self._may_be_believed(written, claim, log)
        ]
        certain = [claim for written, claim in claims if written.is_certain]
        yield from certain or (claim for _, claim in claims)

    def _may_be_believed(self, written: Written, claim: _Claim[_Job], log: EvalLog) -> bool:
        """Its own process's life, and where pids may collide another fact, must agree."""
        program = self._program_of(claim)
        if program is None or program.kind != log.kind:
            return False
        if not _is_between(log, program.started_at, program.ended_at):
            return False
        if written.is_certain or not program.is_in_pid_namespace:
            return True
        return _is_below(log.path, _directory_of(program)) and BY_NAME[program.kind].agrees(program, log)

    def by_output(self, log: EvalLog) -> Iterator[_Claim[_Job]]:
        """The jobs whose output names it, each with the program that may have written it, if that is known."""
        for name in self._printed.get(log.path, ()):
            job = self._jobs[name]
            if _is_between(log, job.started_at, job.ended_at):
                named = [number for number, program in enumerate(job.programs) if _was_seen_writing(program, log)]
                numbers = named or [n for n, program in enumerate(job.programs) if could_have_written(program, log)]
                yield _Claim(name, numbers[0] if len(numbers) == 1 else None, job.started_at, job.ended_at)

    def by_place(self, log: EvalLog) -> Iterator[_Claim[_Job]]:
        """All that could have written it, if one of them is known to write there."""
        near = [*self._at(log, [*_directories_of(log.path)])]
        if not near:
            return
        claims = [*near, *self._at(log, [None])]
        names = [self._names_task(claim, log) for claim in claims]
        # A name may be a tag for several tasks, so a program that names others is ruled out only if another one names
        # exactly this task.
        is_told = True in names
        yield from (claim for claim, is_its in zip(claims, names, strict=True) if is_its is not False or not is_told)
        yield from self._unseen.at(log)

    def _at(self, log: EvalLog, directories: Iterable[str | None]) -> Iterator[_Claim[_Job]]:
        for directory in directories:
            if directory in self._by_directory:
                for claim in self._by_directory[directory].at(log):
                    program = self._program_of(claim)
                    if program is not None and program.kind == log.kind and BY_NAME[log.kind].agrees(program, log):
                        yield claim

    def _names_task(self, claim: _Claim[_Job], log: EvalLog) -> bool | None:
        program = self._program_of(claim)
        return None if program is None else BY_NAME[program.kind].names_task(program, log)

    def _program_of(self, claim: _Claim[_Job]) -> ObservedProgram | None:
        return None if claim.program is None else self._jobs[claim.job].programs[claim.program]


class _ByTime(Generic[_Job]):
    """Claims by the time in which their programs lived."""

    def __init__(self, claims: Iterable[_Claim[_Job]]) -> None:
        self._claims = sorted(claims, key=lambda claim: claim.started_at)
        self._starts = [claim.started_at for claim in self._claims]
        lasted = [(claim.ended_at or float("inf")) - claim.started_at for claim in self._claims]
        self._longest_s = max(lasted, default=0.0)

    def at(self, log: EvalLog) -> Iterator[_Claim[_Job]]:
        """Those that lived when the log was begun."""
        at, slack_s = _begun(log)
        for number in range(bisect_right(self._starts, at + slack_s) - 1, -1, -1):
            if self._starts[number] + self._longest_s < at - slack_s:
                return
            claim = self._claims[number]
            if claim.ended_at is None or at <= claim.ended_at + slack_s:
                yield claim


class _Resumed:
    """Finds the logs of what a program resumed."""

    def __init__(self, logs: Iterable[EvalLog]) -> None:
        self._by_directory: dict[str, list[EvalLog]] = defaultdict(list)
        for log in logs:
            self._by_directory[os.path.dirname(log.path)].append(log)

    def by(self, program: ObservedProgram) -> list[EvalLog]:
        """The last of each of the tasks that it found in its directory."""
        kind = BY_NAME.get(program.kind)
        if kind is None or program.verb not in kind.program.resuming_verbs:
            return []
        logs = {
            log.path: log
            for log in self._by_directory.get(kind.directory_of(program) or "", ())
            if log.kind == kind.name and _begun(log)[0] <= program.started_at and kind.agrees(program, log)
        }
        return [logs[path] for path in _last_attempts(logs.values())]


def _is_of(owner: Owner[_Job], number: int, program: ObservedProgram, log: EvalLog) -> bool:
    """Whether a job's own log is that of one of its programs."""
    return owner.program == number or (owner.program is None and _may_be_of(program, log))


def _may_be_of(program: ObservedProgram, log: EvalLog) -> bool:
    """Whether it may be this program's: its process was seen to write it, or nothing that is known rules it out."""
    return _was_seen_writing(program, log) or could_have_written(program, log)


def _was_seen_writing(program: ObservedProgram, log: EvalLog) -> bool:
    return any(is_this(written, log.path) for written in program.wrote)


def _why_not_whole(
    program: ObservedProgram, own: Collection[str], disputed: Sequence[EvalLog], not_all_read: str | None
) -> str | None:
    """Why a program wrote more logs than those that were found; None if they are all."""
    lost = [written for written in program.wrote if not any(_has_name_of(written, path) for path in own)]
    # An eval-set deletes the log of a failed try at a task; that of the next try ends in the same id.
    tails = {tail for path in own if (tail := _tail(os.path.basename(path)))}
    lost = [written for written in lost if _tail(written.name) not in tails]
    return _why_unknown(replace(program, wrote=tuple(lost)), disputed, not_all_read) if lost else None


def _has_name_of(written: Written, path: str) -> bool:
    """Whether it is this log; of one whose directory could not be translated, whether the names are equal."""
    return is_this(written, path) or (written.path is None and written.name == os.path.basename(path))


def _tail(name: str) -> str:
    """What follows the time in `{time}_{task}_{id}.eval`; empty if there is no time."""
    return name.partition("_")[2]


def _why_unknown(program: ObservedProgram, disputed: Sequence[EvalLog], not_all_read: str | None) -> str | None:
    """Why a program without a log of its own may have left one nevertheless; None if it has none."""
    kind = BY_NAME.get(program.kind)
    for written in program.wrote:
        if written.path is None:
            return NOT_READABLE_HERE
        if "://" in written.path:
            return IN_MEMORY if written.path.startswith("memory:") else AT_A_URL
    if any(_may_be_of(program, log) for log in disputed):
        return NOT_TOLD_APART
    if program.wrote:
        return not_all_read or GONE
    why = PLACE_UNKNOWN if kind is None or program.options is None else _why_unwritten(program, kind)
    return why or not_all_read


def _why_unwritten(program: ObservedProgram, kind: Kind) -> str | None:
    """The same of a program that was not seen to write any."""
    if _is_told_url(program, kind):
        return IN_MEMORY if (kind.given_directory(program) or "").startswith("memory:") else AT_A_URL
    if kind.directory_of(program) is None:
        return NOT_WRITTEN if kind.writes_none(program) else PLACE_UNKNOWN
    return None


def _last_attempts(logs: Iterable[EvalLog]) -> list[str]:
    """Of several attempts at one eval the last, of copies of one log the one that was changed last; paths, by age."""
    by_eval: dict[str, EvalLog] = {}
    for log in sorted(logs, key=lambda log: (log.changed_at, log.path)):
        by_eval[log.eval_id or log.path] = log
    by_task: dict[str, EvalLog] = {}
    for log in sorted(by_eval.values(), key=lambda log: (_begun(log)[0], log.changed_at, log.path)):
        by_task[log.task_id or log.path] = log
    return [log.path for log in by_task.values()]


def _begun(log: EvalLog) -> tuple[float, float]:
    """When the log was begun, or where that is not known its file was last changed; and how far that may be off."""
    if log.created is None:
        return log.changed_at, _CHANGED_SLACK_S
    return log.created.timestamp(), _CREATED_SLACK_S


def _is_between(log: EvalLog, started_at: float, ended_at: float | None) -> bool:
    at, slack_s = _begun(log)
    return at >= started_at - slack_s and (ended_at is None or at <= ended_at + slack_s)


def _directory_of(program: ObservedProgram) -> str | None:
    kind = BY_NAME.get(program.kind)
    return None if kind is None else kind.directory_of(program)


def _directories_of(path: str) -> Iterator[str]:
    """All directories that a file lies in."""
    while path not in {"/", ""}:
        path = os.path.dirname(path)
        yield path


def _is_below(path: str, directory: str | None) -> bool:
    return directory is not None and path.startswith(f"{directory.rstrip('/')}/")
