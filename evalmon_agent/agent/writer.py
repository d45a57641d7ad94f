"""Writes a report: finds the place, writes, and tries again where that may help.

What the file system refuses becomes a note in the report, if a later attempt to write succeeds, and never a word
on the eval's output.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any

from .arguments import Arguments
from .job import Job
from .jobs_directory import JobsDirectory, NotOursError, find_monitor_directory
from .report import Run, enter, new_report, printable
from .sampling import record

# A start is worth telling late.
_RETRY_START_S = 30.0

# While a job waits for its end to be written, only these are worth a second try.
_RETRY_END_S = 0.5
_MAY_PASS = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY})


def work(asked: Arguments, job: Job | None, run: Run, *, notes: list[str], parent: int, stderr: int) -> int:
    """Write what `run` holds, until it is written, or SIGTERM comes, or the parent is gone.

    Returns:
        0 (written, or there is nowhere to write to, which is said on `stderr`), or the errno of the last
        failure.
    """
    monitor = asked.dir or os.environ.get("EVALMON_DIR") or None
    why_not = ""
    if job is None:
        why_not = "not in a Slurm job"
    elif monitor is None:
        monitor = find_monitor_directory(os.environ)
        why_not = "" if monitor else "EVALMON_DIR is not set and no evalmon.yaml found"
    if job is None or monitor is None:
        if stderr >= 0:
            os.write(stderr, f"evalmon run: {why_not}: nothing is reported\n".encode())
        return 0
    pause_s = _RETRY_START_S if run.ended_at is None else _RETRY_END_S
    while error := _error_of_writing(asked, job, run, monitor=monitor, notes=notes):
        is_hopeless = isinstance(error, NotOursError) or (run.ended_at is not None and error.errno not in _MAY_PASS)
        if is_hopeless or signal.sigtimedwait({signal.SIGTERM}, pause_s) or os.getppid() != parent:
            return error.errno or errno.EIO
    return 0


def _error_of_writing(asked: Arguments, job: Job, run: Run, *, monitor: str, notes: list[str]) -> OSError | None:
    try:
        with JobsDirectory(monitor, experiment_id=asked.experiment_id) as jobs:
            job_id, file, report = job.job_id, job.file, jobs.load(job.file)
            if report is not None and report.get("raw_id") != job.raw_id:
                job_id, file, report = str(job.raw_id), job.spare_file, jobs.load(job.spare_file)
            report = report or new_report(job, job_id=job_id, uid=os.getuid())
            report["name"] = printable(asked.name or os.environ.get("EVALMON_NAME")) or report.get("name")
            report["job_name"] = printable(os.environ.get("SLURM_JOB_NAME")) or report.get("job_name")
            attempt = _attempt(asked, job)
            if run.sampler_said:
                attempt["sampler"] = sampler = record.parse(run.sampler_said)
                notes += [note for note in record.notes_of(sampler) if note not in notes]
            seen = json.loads(run.evals_seen) if run.evals_seen else {}
            enter(report, attempt, run, notes=notes, seen=seen)
            jobs.save(file, report)
    except OSError as error:
        note = f"report: {error}"[:300]
        notes += [note] if note not in notes else []
        return error
    return None


def _attempt(asked: Arguments, job: Job) -> dict[str, Any]:
    output_dir = asked.output_dir or os.environ.get("EVALMON_OUTPUT_DIR")
    return {
        "restart": job.restart,
        "token": printable(asked.token),
        "host": os.uname().nodename,
        "boot_id": _boot_id(),
        "time_limit_end": job.time_limit_end,
        "output_dir": printable(os.path.abspath(output_dir) if output_dir else None),
        "interpreter": printable(sys.executable),
        "scope": job.scope,
    }


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None
