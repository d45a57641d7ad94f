"""Chooses, names and checks jobs that become evals although evalmon did not submit them. Pure."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.errors import UsageError
from evalmon_agent.slurm.scontrol import JobDetails
from evalmon_agent.words.eval_names import name_from_path, task_name
from evalmon_agent.words.job_id import JobId, expand_pending, task_of, whole_job, without_component
from evalmon_agent.words.states import State


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
