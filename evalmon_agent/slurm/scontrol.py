"""Asks scontrol about one job and about the cluster's configuration: argv and parse."""

from __future__ import annotations

import re
from collections.abc import Mapping

from evalmon_agent.words.job_id import JobId

_STANDARD_FILE = re.compile(r"^\s*(StdOut|StdErr|StdIn)=(/.*?)\s*$", re.MULTILINE)
_PREEMPTED = re.compile(r"\bPreemptTime=(?!None\b|\(null\)|Unknown\b|N/A\b)\S")
_SETTING = re.compile(r"(\w+)\s*=\s?(.*)")
_VERSION = re.compile(r"slurm\S*\s+(\d+)\.(\d+)\S*", re.IGNORECASE)


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
