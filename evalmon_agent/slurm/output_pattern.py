"""Where does a job's output go: sbatch's --output pattern, expanded. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from evalmon_agent.words.job_id import JobId, task_of, whole_job

_SPECIFIER = re.compile(r"%(?P<width>\d{0,2})(?P<letter>[A-Za-z%])")


def output_path(options: Mapping[str, str], job_id: JobId, *, raw_id: int | None, name: str, folder: str) -> str | None:
    """The file of a batch job's stdout (sbatch(1), FILENAME PATTERN); None where only Slurm knows it.

    `options`: the script's #SBATCH options; `folder`: where it was submitted; `name`: the job's name.
    """
    number, task = whole_job(job_id), task_of(job_id)
    default = "slurm-%j.out" if task is None else "slurm-%A_%a.out"
    pattern = options.get("output") or default
    folder = os.path.join(folder, options.get("chdir", ""))
    if "\\" in pattern:
        return os.path.join(folder, pattern.replace("\\", ""))
    own_id = str(raw_id) if raw_id is not None else (number if task is None else None)
    values = {
        "%": "%",
        "A": number,
        "a": None if task is None else str(task),
        "j": own_id,
        "J": own_id,
        "x": name,
    }
    found = _expand(pattern, values)
    return None if found is None else os.path.join(folder, found)


def path_beforehand(options: Mapping[str, str], which: str, *, name: str, user: str, folder: str) -> str | None:
    """The file of --output or --error (`which`) of a job that is not submitted yet; None if its directory is not known.

    In the file's own name, what only a job has stays as it is (`%j`).
    """
    pattern = options.get(which) or "slurm-%j.out"
    folder = os.path.join(folder, options.get("chdir", ""))
    if "\\" in pattern:
        return os.path.join(folder, pattern.replace("\\", ""))
    directory, slash, file = pattern.rpartition("/")
    found = _expand(directory + slash, {"%": "%", "x": name, "u": user})
    return None if found is None else os.path.join(folder, found, file)


def _expand(pattern: str, values: Mapping[str, str | None]) -> str | None:
    parts: list[str] = []
    at = 0
    for match in _SPECIFIER.finditer(pattern):
        value = values.get(match["letter"])
        if value is None:
            return None
        width = int(match["width"] or 0)
        parts += [pattern[at : match.start()], value.zfill(width) if value.isdecimal() else value]
        at = match.end()
    return "".join([*parts, pattern[at:]])
