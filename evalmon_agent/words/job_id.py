"""Parses the ids that Slurm prints for jobs, array tasks, het components and steps."""

from __future__ import annotations

import re
from typing import NewType

MAX_JOB = 2**32 - 1
MAX_TASK = 4_000_001
MAX_TASKS = 1_000_000

JobId = NewType("JobId", str)
"""A job as Slurm names it: `123`, the array task `123_4`, the het component `123+1`.

One job has one spelling: component 0, which runs the batch script and which Slurm prints as `123+0`, is `123`.
"""

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_JOB_ID = re.compile(rf"({_NUMBER})(?:_({_NUMBER})|\+({_NUMBER}))?")
_STEP = re.compile(r"[A-Za-z0-9_]+(?:\+[0-9]*)?")
_RANGE = re.compile(rf"({_NUMBER})(?:-({_NUMBER})(?::({_NUMBER}))?)?")
_LIMIT = re.compile(rf"%{_NUMBER}$")


def parse_job_id(text: str) -> JobId | None:
    """The id in Slurm's own spelling and nothing else: no blanks, signs, leading zeros or steps."""
    match = _JOB_ID.fullmatch(text)
    if match is None:
        return None
    number, task, component = match.groups()
    if not 0 < int(number) <= MAX_JOB or int(task or component or 0) > MAX_TASK:
        return None
    return JobId(number if component == "0" else text)


def whole_job(job_id: JobId) -> JobId:
    """The job that a task or a component belongs to: `123` for `123_4`, for `123+1` and for `123`."""
    return JobId(job_id.partition("_")[0].partition("+")[0])


def number_of(job_id: JobId) -> int:
    """The job's number, without task or component: to sort by."""
    return int(whole_job(job_id))


def task_of(job_id: JobId) -> int | None:
    """The array task; None for a job that is not one."""
    task = job_id.partition("_")[2]
    return int(task) if task else None


def component_of(job_id: JobId) -> int | None:
    """The het component; None for other jobs, and for component 0, which represents its whole job."""
    component = job_id.partition("+")[2]
    return int(component) if component else None


def without_component(job_id: JobId) -> JobId:
    """What may be an eval: a job, an array task, or the whole het job of a component."""
    return JobId(job_id.partition("+")[0])


def array_task(array: JobId, task: int) -> JobId:
    """The id of one task of an array."""
    return JobId(f"{array}_{task}")


def split_step(text: str) -> tuple[JobId, str | None] | None:
    """`123_4.batch` as (123_4, "batch"); a job row, `123_4`, as (123_4, None)."""
    job, dot, step = text.partition(".")
    job_id = parse_job_id(job)
    if job_id is None:
        return None
    if not dot:
        return job_id, None
    return (job_id, step) if _STEP.fullmatch(step) else None


def parse_array_spec(text: str) -> tuple[int, ...] | None:
    """The task ids of `--array=1,3,5-9:2%4`, ascending; None for what Slurm refuses or no cluster takes."""
    spec = _LIMIT.sub("", text.removeprefix("[").removesuffix("]"))
    ranges: list[range] = []
    total = 0
    for part in spec.split(","):
        tasks = _range(part)
        if tasks is None:
            return None
        total += len(tasks)
        # Counted before it is built: `0-1000000,` a thousand times over is a short text.
        if total > MAX_TASKS:
            return None
        ranges.append(tasks)
    return tuple(sorted({task for tasks in ranges for task in tasks}))


def expand_pending(text: str) -> tuple[JobId, ...] | None:
    """The jobs that one row of squeue or sacct names: `123_[4-9,12-20:2%2]`, `123_4`, `123`.

    None where Slurm cut the text (`123_[1,3,...]`, see SLURM_BITSTR_LEN) or it is no id.
    """
    head, bracket, spec = text.partition("_[")
    if not bracket:
        job_id = parse_job_id(text)
        return None if job_id is None else (job_id,)
    array = parse_job_id(head)
    if array is None or not head.isdecimal() or not spec.endswith("]"):
        return None
    tasks = parse_array_spec(f"[{spec}")
    return None if tasks is None else tuple(array_task(array, task) for task in tasks)


def _range(text: str) -> range | None:
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    step = 1 if match[3] is None else int(match[3])
    if last < first or last > MAX_TASK or step < 1:
        return None
    return range(first, last + 1, step)
