"""Chooses, names and checks jobs that become evals although evalmon did not submit them. Pure."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from evalmon_agent.errors import UsageError
from evalmon_agent.slurm.scontrol import JobDetails
from evalmon_agent.words.eval_names import name_from_path, task_name
from evalmon_agent.words.job_id import JobId, expand_pending, task_of, whole_job, without_component
from evalmon_agent.words.states import State

_TASK = re.compile(r"%\d*a")


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


@dataclass(frozen=True, slots=True)
class Adoption:
    """One planned eval. `stem`: its name without the array task; `given`: the user chose it."""

    job: SlurmJob
    stem: str
    given: bool
    from_path: bool
    whole_array: bool

    @property
    def name(self) -> str:
        """The eval's name."""
        return name_of(self.stem, self.job.job_id)


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
    chosen: Sequence[tuple[WatchRequest, SlurmJob]], *, root: str, taken: Mapping[str, bool], whole: Collection[JobId]
) -> list[Adoption]:
    """The planned evals, in the order asked for.

    `taken`: the names that are known already, and whether that eval is active; `whole`: the arrays of which all tasks
    are requested. UsageError with a line for each name that two evals would have. Names from the job's name, which many
    jobs share, get the job's id where they are not unique.
    """
    planned = [_planned(request, job, root=root, whole=whole) for request, job in chosen]
    shared = Counter(stem for stem, _ in {(adoption.stem, whole_job(adoption.job.job_id)) for adoption in planned})
    planned = [
        _made_unique(adoption, is_shared=shared[adoption.stem] > 1 or adoption.name in taken) for adoption in planned
    ]
    _refuse_doubles(planned, taken)
    return planned


def _planned(request: WatchRequest, job: SlurmJob, *, root: str, whole: Collection[JobId]) -> Adoption:
    below = None if job.script is None else os.path.relpath(job.script, root)
    from_path = below is not None and not below.startswith(os.pardir + os.sep)
    by_path = name_from_path(below) if below is not None and from_path else None
    stem = request.name or by_path or job.job_name or whole_job(job.job_id)
    return Adoption(job, stem, request.name is not None, by_path is not None, whole_job(job.job_id) in whole)


def _made_unique(adoption: Adoption, *, is_shared: bool) -> Adoption:
    if adoption.given or adoption.from_path or not is_shared:
        return adoption
    return replace(adoption, stem=f"{adoption.stem}-{whole_job(adoption.job.job_id)}")


def _refuse_doubles(planned: Sequence[Adoption], taken: Mapping[str, bool]) -> None:
    by_name: dict[str, list[Adoption]] = defaultdict(list)
    for adoption in planned:
        by_name[adoption.name].append(adoption)
    problems = []
    for name, adoptions in by_name.items():
        ids = [adoption.job.job_id for adoption in adoptions]
        if len(adoptions) > 1:
            problems.append(f"jobs {' and '.join(ids)} would all be called {name}; name them: NAME={ids[0]}")
        elif taken.get(name):
            problems.append(f"job {ids[0]} would be called {name}, as an active eval is; name it: NAME={ids[0]}")
    if problems:
        raise UsageError(*problems)


def array_pattern(paths: Sequence[str | None]) -> str | None:
    """The pattern of all tasks' paths, one that has `%a` or is the same for all; None if there is none."""
    patterns = [path for path in paths if path is not None and _TASK.search(path)]
    return patterns[0] if patterns else paths[0] if len(set(paths)) == 1 else None
