"""Writes a job's report below evalmon/jobs: finds the directory, checks it, and retries if that may help.

An error of the file system becomes a note in the report if a later attempt to write succeeds, and never a message on
the eval's output.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from evalmon_agent.files.proc import boot_id
from evalmon_agent.files.replace import replace_atomically

from .arguments import Arguments
from .job import Job
from .report import SCHEMA, Run, enter, is_report, new_report, sampler_notes, without_surrogates

# A start is worth telling late.
_RETRY_START_S = 30.0

# While a job waits for its end to be written, only these are worth a second try.
_RETRY_END_S = 0.5
_MAY_PASS = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY})

_REPORT_BYTES_AT_MOST = 4 << 20
_IDENTITY_BYTES_AT_MOST = 64 << 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

# Long enough for a dozen parts of one job that start at once, short enough to fit twice into what a job waits.
_LOCK_WITHIN_S = 0.7


def write_report(options: Arguments, job: Job | None, run: Run, *, notes: list[str], parent: int, stderr: int) -> int:
    """Write what `run` knows; retry until it is written, or SIGTERM arrives, or the parent is gone.

    Returns:
        0 (written, or there is no place to write to: `stderr` gets a line that says so), or the errno of the last
        failure.
    """
    monitor = options.dir or os.environ.get("EVALMON_DIR") or None
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
    while error := _error_of_writing(options, job, run, monitor=monitor, notes=notes):
        is_hopeless = isinstance(error, NotOursError) or (run.ended_at is not None and error.errno not in _MAY_PASS)
        if is_hopeless or signal.sigtimedwait({signal.SIGTERM}, pause_s) or os.getppid() != parent:
            return error.errno or errno.EIO
    return 0


def _error_of_writing(options: Arguments, job: Job, run: Run, *, monitor: str, notes: list[str]) -> OSError | None:
    try:
        with JobsDirectory(monitor, experiment_id=options.experiment_id) as jobs:
            job_id, file, report = job.job_id, job.file, jobs.load(job.file)
            if report is not None and report.get("raw_id") != job.raw_id:
                job_id, file, report = str(job.raw_id), job.spare_file, jobs.load(job.spare_file)
            report = report or new_report(job, job_id=job_id, uid=os.getuid())
            report["name"] = without_surrogates(options.name or os.environ.get("EVALMON_NAME")) or report.get("name")
            report["job_name"] = without_surrogates(os.environ.get("SLURM_JOB_NAME")) or report.get("job_name")
            attempt = _attempt(options, job)
            if run.sampler_status or run.sampler_trouble:
                attempt["sampler"] = sampler = _sampler(run)
                notes += [note for note in sampler_notes(sampler) if note not in notes]
            observed = json.loads(run.observed_evals) if run.observed_evals else {}
            enter(report, attempt, run, notes=notes, observed=observed)
            jobs.save(file, report)
    except OSError as error:
        note = f"report: {error}"[:300]
        notes += [note] if note not in notes else []
        return error
    return None


def _sampler(run: Run) -> dict[str, Any]:
    if not run.sampler_status:
        return {"not_sampled": run.sampler_trouble, "troubles": []}
    entry: dict[str, Any] = json.loads(run.sampler_status)
    return entry | {"ended": run.sampler_trouble} if run.sampler_trouble else entry


def _attempt(options: Arguments, job: Job) -> dict[str, Any]:
    output_dir = options.output_dir or os.environ.get("EVALMON_OUTPUT_DIR")
    return {
        "restart": job.restart,
        "token": without_surrogates(options.token),
        "host": os.uname().nodename,
        "boot_id": _boot_id(),
        "node": without_surrogates(os.environ.get("SLURMD_NODENAME")),
        "nodes": job.nodes,
        "time_limit_end": job.time_limit_end,
        "output_dir": without_surrogates(os.path.abspath(output_dir) if output_dir else None),
        "interpreter": without_surrogates(sys.executable),
        "scope": job.scope,
    }


def _boot_id() -> str | None:
    try:
        return boot_id()
    except OSError:
        return None


class NotOursError(PermissionError):
    """The directory or the report may not be written by this user; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


def find_monitor_directory(environ: Mapping[str, str]) -> str | None:
    """EXP/evalmon of the nearest experiment at or above the directory of submission, else this one."""
    starts = [environ.get("SLURM_SUBMIT_DIR", "")]
    with suppress(OSError):  # it is gone
        starts.append(os.getcwd())
    experiments = (nearest_experiment(start) for start in starts if os.path.isabs(start))
    return next((os.path.join(experiment, "evalmon") for experiment in experiments if experiment is not None), None)


def nearest_experiment(start: str) -> str | None:
    """The nearest experiment's directory at or above an absolute path."""
    directory = start
    while not is_experiment(directory):
        if directory == os.path.dirname(directory):
            return None
        directory = os.path.dirname(directory)
    return directory


def is_experiment(directory: str) -> bool:
    """Whether it has evalmon/registry.jsonl, or an evalmon.yaml of this user's or root's (nobody else's counts)."""
    return os.path.exists(os.path.join(directory, "evalmon", "registry.jsonl")) or _is_marked(directory)


def _is_marked(directory: str) -> bool:
    """Whether there is an evalmon.yaml: a regular file of this user or root, or a link of theirs to one."""
    path, owners = os.path.join(directory, "evalmon.yaml"), {os.getuid(), 0}
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) and status.st_uid in owners:
            status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid in owners


class JobsDirectory:
    """An open `jobs` directory of this user, locked, as well as the file system allows, while it is open."""

    def __init__(self, monitor: str, *, experiment_id: str | None = None) -> None:
        """Open it; `jobs` itself is made where it is missing, and `monitor` beside an evalmon.yaml.

        Args:
            monitor: EXP/evalmon.
            experiment_id: what its experiment.json must say; None: that does not matter.

        Raises:
            NotOursError: it belongs to somebody else, others may write in it, it is a symbolic link, or another
                experiment's.
            OSError: it is not there, or the file system refuses.
        """
        monitor = monitor.rstrip("/")  # behind a slash a symbolic link would be followed
        if experiment_id is None and _is_marked(os.path.dirname(monitor)):
            _make(monitor, dir_fd=None)
        above = _open_ours(monitor, dir_fd=None)
        try:
            if experiment_id is not None and _id_in(above) != experiment_id:
                raise NotOursError(f"{monitor} is another experiment's")
            _make("jobs", dir_fd=above)
            self._descriptor = _open_ours("jobs", dir_fd=above)
        finally:
            os.close(above)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _LOCK_WITHIN_S
        while not self._try_lock() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def _try_lock(self) -> bool:
        """Lock it, so that two parts of one job take turns; also True if the file system has no such lock."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def load(self, name: str) -> dict[str, Any] | None:
        """The report as it stands; None if there is none. An unreadable one is set aside.

        Raises:
            NotOursError: a newer evalmon wrote it.
            OSError: reading failed.
        """
        try:
            data = self._read(name)
        except FileNotFoundError:
            return None
        report: object = _from_json(data) if data is not None else None
        if not is_report(report):
            aside = f"{name}.corrupt-{int(time.time())}"
            os.rename(name, aside, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            return None
        if report["schema"] > SCHEMA:
            raise NotOursError(f"{name} has schema {report['schema']}")
        return report

    def _read(self, name: str) -> bytes | None:
        """Its content; None if it is not a regular file of sane size."""
        status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _REPORT_BYTES_AT_MOST:
            return None
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._descriptor), "rb") as file:
            return file.read(_REPORT_BYTES_AT_MOST)

    def save(self, name: str, report: dict[str, Any]) -> None:
        """Replace the report.

        Raises:
            OSError: it is as it was.
        """
        data = json.dumps(report, allow_nan=False).encode() + b"\n"
        replace_atomically(name, data, dir_fd=self._descriptor)


def _from_json(data: bytes) -> Any:
    """The value; None if it is none, or not UTF-8, or has a number that JSON does not have."""
    try:
        value = json.loads(data.decode())
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value


def _make(path: str, *, dir_fd: int | None) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700, dir_fd=dir_fd)


def _id_in(directory: int) -> str | None:
    """The id of its experiment; None if there is none."""
    try:
        descriptor = os.open("experiment.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        identity = _from_json(os.read(descriptor, _IDENTITY_BYTES_AT_MOST))
    finally:
        os.close(descriptor)
    return identity.get("id") if isinstance(identity, dict) else None


def _open_ours(path: str, *, dir_fd: int | None) -> int:
    descriptor = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    status = os.fstat(descriptor)
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise NotOursError(f"{path} is not writable by this user alone")
    return descriptor
