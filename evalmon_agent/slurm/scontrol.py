"""Asks scontrol about one job and about the cluster's configuration: argv and parse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, array_task, parse_job_id

_STANDARD_FILE = re.compile(r"^\s*(StdOut|StdErr|StdIn)=(/.*?)\s*$", re.MULTILINE)
_JOB = re.compile(r"^JobId=", re.MULTILINE)
_JOB_FIELD = re.compile(r"\b(ArrayJobId|ArrayTaskId|SubmitTime)=(\S+)")
# What stands for `%a` in the path of tasks that wait: NO_VAL [ran, 22.05 to 26.05].
_NO_TASK = "4294967294"
_PREEMPTED = re.compile(r"\bPreemptTime=(?!None\b|\(null\)|Unknown\b|N/A\b)\S")
_SETTING = re.compile(r"(\w+)\s*=\s?(.*)")
_VERSION = re.compile(r"slurm\S*\s+(\d+)\.(\d+)\S*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Where a job's output and errors go: absolute, as patterns of sbatch(1); None is unknown.

    `job_id` is the array's where a row stands for several of its tasks; `submitted_at` (epoch) distinguishes jobs with
    the same id.
    """

    job_id: JobId
    submitted_at: float | None
    output: str | None
    errors: str | None = None


def show_job(job_id: JobId) -> list[str]:
    """One job, a line for each few of its fields."""
    return ["scontrol", "-a", "show", "job", job_id]


def write_script(job_id: JobId) -> list[str]:
    """The batch script that Slurm has spooled, on stdout."""
    return ["scontrol", "write", "batch_script", job_id, "-"]


def is_preempted_for_good(text: str) -> bool:
    """Whether this job is being ended by preemption, and not run again.

    PreemptTime is set with PreemptMode=CANCEL only [ran, 22.05]; where Slurm requeues the job it stays None.
    """
    return bool(_PREEMPTED.search(text))


def standard_files(text: str) -> dict[str, str]:
    """The paths of `StdOut`, `StdErr` and `StdIn`, where Slurm names them and has filled in their patterns."""
    return {name: path for name, path in _STANDARD_FILE.findall(text) if "%" not in path}


def output_files(text: str) -> list[OutputFiles]:
    """The output files of each job in `show_job()`'s answer, an array's tasks one by one once they have started.

    Most patterns are filled in; up to 24.05 those with a width (`%3a`) are not [ran, 22.05, 24.11].
    """
    records = (record for start in _JOB.split(text)[1:] if (record := _output_files(start)) is not None)
    return list(records)


def _output_files(record: str) -> OutputFiles | None:
    fields = dict(_JOB_FIELD.findall(record))
    task = fields.get("ArrayTaskId", "")
    job_id = parse_job_id(fields.get("ArrayJobId") or record.partition(" ")[0])
    if job_id is None:
        return None
    files = {name: path.replace(_NO_TASK, "%a") for name, path in _STANDARD_FILE.findall(record)}
    if task.isdecimal():
        job_id = array_task(job_id, int(task))
    return OutputFiles(job_id, parse_stamp(fields.get("SubmitTime", "")), files.get("StdOut"), files.get("StdErr"))


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
