"""Asks squeue and sacct for partition, account, QOS, directory and output of jobs that evalmon did not submit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from evalmon_agent.slurm.scontrol import OutputFiles
from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, expand_pending

# As in squeue.py: a record starts with \x1e, and what may hold anything, the directory, comes last.
_QUEUE_FIELDS = ("%i", "%V", "%P", "%a", "%q", "%Z")
_QUEUE_FORMAT = "\x1e" + "\x1f".join(_QUEUE_FIELDS)
_RECORD = re.compile(r"\x1e([^\x1e]+)")

# WorkDir is not in every version's accounting: hence a question of its own, whose failure costs nothing else.
_ACCOUNT_FIELDS = ("JobID", "Submit", "Partition", "Account", "QOS", "WorkDir")
# Since 24.05; an older sacct refuses the fields.
_OUTPUT_FIELDS = ("JobID", "Submit", "User", "StdOut", "StdErr", "WorkDir", "JobName")
_UNKNOWN = frozenset({"", "(null)", "N/A", "Unknown"})


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where one job runs or ran; unknown is None. `submitted_at` (epoch) distinguishes jobs with the same id."""

    job_id: JobId
    submitted_at: float | None
    partition: str | None
    account: str | None
    qos: str | None
    work_dir: str | None


def queue_argv() -> list[str]:
    """All jobs of this user that squeue knows, also those in hidden partitions, one row per array task."""
    return ["squeue", "-a", "-h", "--me", "-r", "-t", "all", "-o", _QUEUE_FORMAT]


def parse_queue(text: str) -> list[Whereabouts]:
    """Every row of `queue_argv()`'s answer that can be read."""
    return [place for match in _RECORD.finditer(text) for place in _row(match[1].removesuffix("\n").split("\x1f", 5))]


def account_argv(job_ids: Sequence[JobId], *, delimiter: str) -> list[str]:
    """The argv that asks accounting about these jobs, without their steps."""
    return _argv(job_ids, _ACCOUNT_FIELDS, delimiter=delimiter)


def output_argv(job_ids: Sequence[JobId], *, delimiter: str) -> list[str]:
    """The argv that asks accounting where these jobs' output goes."""
    return _argv(job_ids, _OUTPUT_FIELDS, delimiter=delimiter)


def _argv(job_ids: Sequence[JobId], fields: Sequence[str], *, delimiter: str) -> list[str]:
    which = [f"--delimiter={delimiter}", "-j", ",".join(job_ids)]
    return ["sacct", "-n", "-P", "-X", "-D", *which, "-o", ",".join(fields)]


def parse_accounts(text: str, *, delimiter: str) -> list[Whereabouts]:
    """Every row of `account_argv()`'s answer that can be read; a newline in a directory costs that row its rest."""
    return [place for line in text.split("\n") for place in _row(line.split(delimiter, 5))]


def _row(cells: Sequence[str]) -> list[Whereabouts]:
    job_ids = expand_pending(cells[0]) if len(cells) == len(_ACCOUNT_FIELDS) else None
    if job_ids is None:
        return []
    partition, account, qos, work_dir = (None if cell in _UNKNOWN else cell for cell in cells[2:])
    is_path = work_dir is not None and work_dir.startswith("/")
    submitted_at = parse_stamp(cells[1])
    return [
        Whereabouts(job_id, submitted_at, partition, account, qos, work_dir if is_path else None) for job_id in job_ids
    ]


def parse_outputs(text: str, *, delimiter: str) -> list[OutputFiles]:
    """Every row of `output_argv()`'s answer that can be read. Accounting has the patterns as they were given."""
    rows = (line.split(delimiter) for line in text.split("\n"))
    return [files for cells in rows if len(cells) == len(_OUTPUT_FIELDS) for files in _outputs(cells)]


def _outputs(cells: Sequence[str]) -> list[OutputFiles]:
    shown_id, submitted, user, output, errors, work_dir, name = cells
    names = {"%x": name.replace("%", "%%"), "%u": user}
    patterns = [re.sub("%[xu]", lambda match: names[match[0]], pattern) for pattern in (output, errors)]
    paths = [os.path.join(work_dir, pattern) if pattern else None for pattern in patterns]
    whole = [path if path is not None and path.startswith("/") else None for path in paths]
    return [OutputFiles(job_id, parse_stamp(submitted), *whole) for job_id in expand_pending(shown_id) or ()]
