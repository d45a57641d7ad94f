"""Looks up, chooses, names and checks the jobs that become evals although evalmon did not submit them."""

from __future__ import annotations

import os
import pwd
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evalmon_agent.errors import UsageError
from evalmon_agent.slurm.client import IDS_PER_CALL, Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.scontrol import JobDetails
from evalmon_agent.words.eval_names import name_from_path, task_name
from evalmon_agent.words.job_id import JobId, expand_pending, number_of, task_of, whole_job, without_component
from evalmon_agent.words.states import TERMINAL, State

_MONITOR_JOB = re.compile(r"/[0-9a-f]{16}/evalmon-(?:sidecar|completion)$")
_MOST_WORDS = 64
_ASKED_ONE_BY_ONE = 100
"""A controller may let each user ask a few times a second only."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What the user asked for: a job, a task, or (`123`) all tasks of an array, with or without a name."""

    job_id: JobId
    name: str | None


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One job as Slurm knows it. `script`: the file that was submitted, if Slurm knows it and it exists."""

    job_id: JobId
    submitted_at: float
    state: State | None
    job_name: str
    script: str | None = None
    place: JobDetails | None = None


@dataclass(slots=True)
class KnownJobs:
    """This user's jobs, which of them are queued or running, the owners of other jobs, and evalmon's monitor jobs.

    `incomplete`: jobs of which accounting has only a part so far, without their owner. `problem`: why
    accounting did not answer, "" if it did.
    """

    jobs: dict[JobId, SlurmJob] = field(default_factory=dict)
    waiting_or_running: set[JobId] = field(default_factory=set)
    other_users: dict[JobId, str] = field(default_factory=dict)
    monitor_jobs: set[JobId] = field(default_factory=set)
    incomplete: set[JobId] = field(default_factory=set)
    problem: str = ""


def known_jobs(slurm: Slurm, job_ids: Iterable[JobId]) -> KnownJobs:
    """What squeue has, and what sacct has of these jobs and arrays."""
    known = KnownJobs()
    for chunk in _chunks(job_ids):
        _add_accounts(known, slurm, chunk)
    queue = slurm.queue()
    for row in () if isinstance(queue, Failure) else queue.rows:
        if _MONITOR_JOB.search(row.command):
            known.monitor_jobs.add(whole_job(row.job_id))
        if row.submitted_at is not None:
            known.jobs[row.job_id] = SlurmJob(row.job_id, row.submitted_at, row.state, row.name, script_of(row.command))
            if row.state not in TERMINAL:
                known.waiting_or_running.add(row.job_id)
    # Accounting may show an array as a plain job while it has only the beginning of it.
    for array in {whole_job(job_id) for job_id in known.jobs if task_of(job_id) is not None}:
        known.jobs.pop(array, None)
    return known


def _chunks(job_ids: Iterable[JobId]) -> Iterator[list[JobId]]:
    whole = sorted({whole_job(job_id) for job_id in job_ids}, key=number_of)
    for start in range(0, len(whole), IDS_PER_CALL):
        yield whole[start : start + IDS_PER_CALL]


def script_of(command: str) -> str | None:
    """The script in a Command, which has the job's arguments behind it before Slurm 23.02; None if it is not there.

    Links in its directory are resolved, as they are in the experiment's.
    """
    words = command.split(" ") if command.startswith("/") else []
    for count in range(min(len(words), _MOST_WORDS), 0, -1):
        path = " ".join(words[:count])
        if os.path.isfile(path):
            return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return None


def _add_accounts(known: KnownJobs, slurm: Slurm, job_ids: Sequence[JobId]) -> None:
    answer = slurm.account(job_ids) if slurm.has("sacct") else None
    if answer is None or isinstance(answer, Failure):
        known.problem = "there is no sacct" if answer is None else answer.line
        return
    me = pwd.getpwuid(os.geteuid()).pw_name
    for row in answer.jobs:
        if not row.whole:
            known.incomplete.add(whole_job(row.job_id))
        elif row.user not in {None, me}:
            known.other_users[whole_job(row.job_id)] = str(row.user)
        elif row.submitted_at is not None:
            known.jobs[row.job_id] = SlurmJob(row.job_id, row.submitted_at, row.state, row.name or "")


def with_places(slurm: Slurm, jobs: Sequence[SlurmJob]) -> list[SlurmJob]:
    """These jobs with where they run and write: by accounting, else by the controller, which takes a call for each.

    Where that would be too many calls, squeue says where the others run; where they write is unknown until they end.
    """
    places: dict[tuple[JobId, float | None], JobDetails] = {}
    for chunk in _chunks(job.job_id for job in jobs):
        places |= {(place.job_id, place.submitted_at): place for place in slurm.places(chunk)}
    missing = {whole_job(job.job_id) for job in jobs if (place := _place(places, job)) is None or place.output is None}
    if len(missing) > _ASKED_ONE_BY_ONE:
        places = {(place.job_id, place.submitted_at): place for place in slurm.places_in_queue()} | places
    for job_id in sorted(missing, key=number_of)[:_ASKED_ONE_BY_ONE]:
        places |= {(place.job_id, place.submitted_at): place for place in slurm.details(job_id)}
    return [replace(job, place=_place(places, job)) for job in jobs]


def _place(places: Mapping[tuple[JobId, float | None], JobDetails], job: SlurmJob) -> JobDetails | None:
    """Its own, or that of all tasks that wait; before Slurm 24.05 accounting has a task's place without its output."""
    array = whole_job(job.job_id)
    own = places.get((job.job_id, job.submitted_at))
    of_array = places.get((array, job.submitted_at))
    if of_array is None or array == job.job_id or (own is not None and own.output is not None):
        return own
    output, errors = (_path_of_task(path, array) for path in (of_array.output, of_array.errors))
    return replace(own or of_array, output=output, errors=errors)


def _path_of_task(path: str | None, array: JobId) -> str | None:
    """An array's path as one for its tasks; None if its number may stand for `%j`, which each task has its own."""
    return path if path is None or "%a" in path or array not in path else None


def name_of(stem: str, job_id: JobId) -> str:
    """The name of this job, or of this task of an array, whose name without the task is `stem`."""
    task = task_of(job_id)
    return stem if task is None else task_name(stem, task)


def parse_requests(words: Sequence[str]) -> list[WatchRequest]:
    """Parse each `[NAME=]JOBID`; UsageError with a line for each invalid one.

    An id as Slurm prints it: `123`, `123_4`, `123_[4-9]`, `123+1`, which is a part of the het job 123.
    """
    requests: list[WatchRequest] = []
    problems: list[str] = []
    for word in words:
        name, equals, text = word.rpartition("=")
        job_ids = expand_pending(text)
        if not job_ids:
            problems.append(f"{text or word!r} is no job id; give it as squeue prints it: 123, 123_4 or NAME=123")
        elif equals and not _is_name(name):
            problems.append(f"{name!r} is no name for an eval; give printable text")
        else:
            requests += [WatchRequest(without_component(job_id), name or None) for job_id in job_ids]
    if problems:
        raise UsageError(*problems)
    return list(dict.fromkeys(requests))


def _is_name(name: str) -> bool:
    return bool(name.strip()) and name.isprintable()


def requested_jobs(request: WatchRequest, jobs: Mapping[JobId, SlurmJob]) -> list[SlurmJob]:
    """The jobs that the request names; for an array all its tasks, unless it is one row."""
    job = jobs.get(request.job_id)
    if job is not None:
        return [job]
    return [job for job_id, job in jobs.items() if task_of(job_id) is not None and whole_job(job_id) == request.job_id]


def plan_adoptions(
    chosen: Sequence[tuple[WatchRequest, SlurmJob]], *, root: str, taken: Mapping[str, bool]
) -> dict[str, SlurmJob]:
    """The planned evals by name, in the order asked for.

    `taken`: the names that are known already, and whether that eval is active. UsageError with a line for each name
    that two evals would have. Names from the job's name, which many jobs share, get the job's id where they are not
    unique.
    """
    own = [request.name or _name_by_path(job, root) for request, job in chosen]
    jobs = [job for _, job in chosen]
    stems = [name or job.job_name or whole_job(job.job_id) for name, job in zip(own, jobs, strict=True)]
    shared = Counter(stem for stem, _ in {(stem, whole_job(job.job_id)) for stem, job in zip(stems, jobs, strict=True)})
    planned: dict[str, list[SlurmJob]] = defaultdict(list)
    for name, stem, job in zip(own, stems, jobs, strict=True):
        is_unique = shared[stem] == 1 and name_of(stem, job.job_id) not in taken
        planned[name_of(stem if name or is_unique else f"{stem}-{whole_job(job.job_id)}", job.job_id)].append(job)
    _refuse_doubles(planned, taken)
    return {name: job for name, [job] in planned.items()}


def _name_by_path(job: SlurmJob, root: str) -> str | None:
    below = os.pardir + os.sep if job.script is None else os.path.relpath(job.script, root)
    return None if below.startswith(os.pardir + os.sep) else name_from_path(below)


def _refuse_doubles(planned: Mapping[str, Sequence[SlurmJob]], taken: Mapping[str, bool]) -> None:
    problems = []
    for name, jobs in planned.items():
        ids = [job.job_id for job in jobs]
        if len(ids) > 1:
            problems.append(f"jobs {' and '.join(ids)} would all be called {name}; name them: NAME={ids[0]}")
        elif taken.get(name):
            problems.append(f"job {ids[0]} would be called {name}, as an active eval is; name it: NAME={ids[0]}")
    if problems:
        raise UsageError(*problems)
