"""Which evals would these jobs be that somebody else submitted: chosen, named, checked. Pure."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from evalmon_agent.errors import UsageError
from evalmon_agent.words.eval_names import name_from_path, task_name
from evalmon_agent.words.job_id import JobId, expand_pending, task_of, whole_job, without_component
from evalmon_agent.words.states import State


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for: a job, a task, or (`123`) all tasks of an array; under a name or none."""

    job_id: JobId
    name: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as Slurm knows it. `script`: the file that it was submitted as, where Slurm has it and it is there."""

    job_id: JobId
    submitted_at: float
    state: State | None
    job_name: str
    script: str | None = None
    work_dir: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """One eval to be. `stem`: its name without the array task's; `given`: the user said it."""

    job: Job
    stem: str
    given: bool
    from_path: bool
    whole_array: bool

    @property
    def name(self) -> str:
        """The eval's name."""
        task = task_of(self.job.job_id)
        return self.stem if task is None else task_name(self.stem, task)


def parse_wanted(words: Sequence[str]) -> list[Wanted]:
    """`[NAME=]JOBID` each; UsageError with a line for each that is none.

    An id as Slurm prints it: `123`, `123_4`, `123_[4-9]`, `123+1`, which is a part of the het job 123.
    """
    wanted: list[Wanted] = []
    problems: list[str] = []
    for word in words:
        name, equals, text = word.rpartition("=")
        job_ids = expand_pending(text)
        if not job_ids:
            problems.append(f"{text or word!r} is no job id; give it as squeue prints it: 123, 123_4 or NAME=123")
        elif equals and not _is_name(name):
            problems.append(f"{name!r} is no name for an eval; give printable text")
        else:
            wanted += [Wanted(without_component(job_id), name or None) for job_id in job_ids]
    if problems:
        raise UsageError(*problems)
    return list(dict.fromkeys(wanted))


def _is_name(name: str) -> bool:
    return bool(name.strip()) and name.isprintable()


def find(wanted: Wanted, jobs: Mapping[JobId, Job]) -> list[Job]:
    """The jobs that are meant: of an array that is not one row, all its tasks."""
    job = jobs.get(wanted.job_id)
    if job is not None:
        return [job]
    return [job for job_id, job in jobs.items() if task_of(job_id) is not None and whole_job(job_id) == wanted.job_id]


def plan(
    chosen: Sequence[tuple[Wanted, Job]], *, root: str, taken: Mapping[str, bool], whole: Collection[JobId]
) -> list[Planned]:
    """The evals to be, in the order asked for.

    `taken`: the names that are known already, and whether that eval is active; `whole`: the arrays of which all tasks
    are meant. UsageError with a line for each name that two evals would have. Names from the job's name, which many
    jobs share, get the job's id where they are not unique.
    """
    planned = [_planned(wanted, job, root=root, whole=whole) for wanted, job in chosen]
    shared = Counter(stem for stem, _ in {(one.stem, whole_job(one.job.job_id)) for one in planned})
    planned = [_told_apart(one, is_shared=shared[one.stem] > 1 or one.name in taken) for one in planned]
    _refuse_doubles(planned, taken)
    return planned


def _planned(wanted: Wanted, job: Job, *, root: str, whole: Collection[JobId]) -> Planned:
    below = None if job.script is None else os.path.relpath(job.script, root)
    from_path = below is not None and not below.startswith(os.pardir + os.sep)
    by_path = name_from_path(below) if below is not None and from_path else None
    stem = wanted.name or by_path or job.job_name or whole_job(job.job_id)
    return Planned(job, stem, wanted.name is not None, by_path is not None, whole_job(job.job_id) in whole)


def _told_apart(one: Planned, *, is_shared: bool) -> Planned:
    if one.given or one.from_path or not is_shared:
        return one
    return replace(one, stem=f"{one.stem}-{whole_job(one.job.job_id)}")


def _refuse_doubles(planned: Sequence[Planned], taken: Mapping[str, bool]) -> None:
    by_name: dict[str, list[Planned]] = defaultdict(list)
    for one in planned:
        by_name[one.name].append(one)
    problems = []
    for name, ones in by_name.items():
        ids = [one.job.job_id for one in ones]
        if len(ones) > 1:
            problems.append(f"jobs {' and '.join(ids)} would all be called {name}; name them: NAME={ids[0]}")
        elif taken.get(name):
            problems.append(f"job {ids[0]} would be called {name}, as an active eval is; name it: NAME={ids[0]}")
    if problems:
        raise UsageError(*problems)
