"""Asks scontrol about one job and about the cluster's configuration; expands lists of nodes (`show hostnames`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product, zip_longest
from math import prod

from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, array_task, parse_job_id

_JOB = re.compile(r"^JobId=(?=\d)", re.MULTILINE)
_FIELD = re.compile(r"\b(ArrayJobId|ArrayTaskId|SubmitTime|Partition|Account|QOS|PreemptTime)=(\S+)")
_PATH = re.compile(r"^\s*(WorkDir|StdOut|StdErr|StdIn)=(/.*?)\s*$", re.MULTILINE)
_UNKNOWN = frozenset({"", "(null)", "None", "N/A", "Unknown"})
# What stands for `%a` in the path of tasks that wait: NO_VAL [ran, 22.05 to 26.05].
_NO_TASK = "4294967294"
_SETTING = re.compile(r"(\w+)\s*=\s?(.*)")
_VERSION = re.compile(r"slurm\S*\s+(\d+)\.(\d+)\S*", re.IGNORECASE)

_NODES_AT_MOST = 10_000
_PART = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")
_GROUP = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobDetails:
    """Where a job runs or ran, and where its output goes: absolute, as patterns of sbatch(1). None is unknown.

    `job_id` is the array's where a record stands for several of its tasks; `submitted_at` (epoch) distinguishes jobs
    with the same id. `is_preempted`: it is being ended by preemption, and not run again.
    """

    job_id: JobId
    submitted_at: float | None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    work_dir: str | None = None
    output: str | None = None
    errors: str | None = None
    input: str | None = None
    is_preempted: bool = field(default=False, kw_only=True)


def known(text: str | None) -> str | None:
    """None for what Slurm prints where a field has no value."""
    return None if text in _UNKNOWN else text


def show_job(job_id: JobId) -> list[str]:
    """One job, a line for each few of its fields."""
    return ["scontrol", "-a", "show", "job", job_id]


def write_script(job_id: JobId) -> list[str]:
    """The batch script that Slurm has spooled, on stdout."""
    return ["scontrol", "write", "batch_script", job_id, "-"]


def parse_jobs(text: str) -> list[JobDetails]:
    """Each job in `show_job()`'s answer, an array's tasks one by one once they have started.

    Most patterns are filled in; up to 24.05 those with a width (`%3a`) are not [ran, 22.05, 24.11].
    """
    return [job for record in _JOB.split(text)[1:] if (job := _details(record)) is not None]


def _details(record: str) -> JobDetails | None:
    fields = {name: value for name, value in _FIELD.findall(record) if known(value) is not None}
    paths = {name: path.replace(_NO_TASK, "%a") for name, path in _PATH.findall(record)}
    job_id = parse_job_id(fields.get("ArrayJobId") or record.split(maxsplit=1)[0])
    if job_id is None:
        return None
    task = fields.get("ArrayTaskId", "")
    return JobDetails(
        array_task(job_id, int(task)) if task.isdecimal() else job_id,
        parse_stamp(fields.get("SubmitTime", "")),
        *map(fields.get, ("Partition", "Account", "QOS")),
        *map(paths.get, ("WorkDir", "StdOut", "StdErr", "StdIn")),
        # Set with PreemptMode=CANCEL only [ran, 22.05]; where Slurm requeues the job it stays None.
        is_preempted="PreemptTime" in fields,
    )


def config_argv() -> list[str]:
    """The cluster's configuration."""
    return ["scontrol", "show", "config"]


def parse_config(text: str) -> dict[str, str]:
    """The values of `config_argv()`'s answer by their names; other lines are left out. `(null)` and `N/A` are empty."""
    settings = {}
    for line in text.splitlines():
        match = _SETTING.fullmatch(line.rstrip())
        if match:
            settings[match[1]] = "" if match[2] in {"(null)", "N/A"} else match[2]
    return settings


def gives_whole_nodes(configuration: Mapping[str, str]) -> bool:
    """Whether every job takes whole nodes here (select/linear), unless its partition shares them."""
    return configuration.get("SelectType") == "select/linear"


def version_argv() -> list[str]:
    """The argv that asks for Slurm's release."""
    return ["sbatch", "--version"]


def parse_version(text: str) -> tuple[int, int] | None:
    """`slurm 24.11.5` or `slurm-wlm 22.05.8` as (24, 11)."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else None


def split_nodes(node_list: str) -> list[str]:
    """Its parts: the commas within brackets belong to one."""
    return _PART.findall(node_list)


@lru_cache(maxsize=10_000)
def hostnames(node_list: str) -> tuple[str, ...]:
    """The nodes of Slurm's `gpu[01-03,7],login1`; the text itself if it is no such list, or a very long one."""
    nodes: list[str] = []
    parts = split_nodes(node_list)
    if ",".join(parts) != node_list:
        return (node_list,)
    for part in parts:
        pieces = _GROUP.split(part)
        groups = [_numbers(group) for group in pieces[1::2]]
        if not 0 < prod(map(len, groups)) <= _NODES_AT_MOST - len(nodes):
            return (node_list,)
        nodes += ["".join(map("".join, zip_longest(pieces[::2], chosen, fillvalue=""))) for chosen in product(*groups)]
    return tuple(dict.fromkeys(nodes))


def _numbers(group: str) -> list[str]:
    """The numbers of `01-03,7`, with their zeros; none if it is something else."""
    numbers: list[str] = []
    for part in group.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 0 <= last - first < _NODES_AT_MOST - len(numbers):
            return []
        numbers += [str(number).zfill(len(part.partition("-")[0])) for number in range(first, last + 1)]
    return numbers
