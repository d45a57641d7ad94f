"""Writes a job's own report, `jobs/{jobid}.json`: its attempts, and the commands of each.

An error of the file system becomes a note in the report if a later attempt to write succeeds, and never a message on
the eval's output. What other versions of evalmon added to an entry stays in it.
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
from typing import Any, Self, TypeGuard

from evalmon_agent.files.proc import boot_id
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.words.printable import without_surrogates

from .arguments import Arguments
from .command import Run
from .job import Job
from .signals import wait_for_signal

SCHEMA = 1

# A start is worth telling late.
_RETRY_START_S = 30.0

_ENDING = frozenset({signal.SIGTERM})

# While a job waits for its end to be written, only these are worth a second try.
_RETRY_END_S = 0.5
_MAY_PASS = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY})

# A script that calls `run` in a loop must not make its report grow without end.
_COMMANDS_AT_MOST = 1000

# Nor must one whose evals are many, or a job that is requeued again and again.
_PROGRAMS_BYTES_AT_MOST = 512 * 1024
_ATTEMPTS_WITH_PROGRAMS = 5

# Two runs with these alike belong to one incarnation of the job; a requeue, or a later job with a recycled
# id, differs in some.
_SAME_ATTEMPT = ("restart", "token", "host", "boot_id", "time_limit_end", "scope")

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
    monitor = options.dir or os.environ.get("EVALMON_DIR")
    if job is not None:
        monitor = monitor or find_monitor_directory(os.environ)
    if job is None or monitor is None:
        if stderr >= 0:
            why_not = "not in a Slurm job" if job is None else "EVALMON_DIR is not set and no evalmon.yaml found"
            os.write(stderr, f"evalmon run: {why_not}: nothing is reported\n".encode())
        return 0
    pause_s = _RETRY_START_S if run.ended_at is None else _RETRY_END_S
    while error := _error_of_writing(options, job, run, monitor=monitor, notes=notes):
        is_hopeless = isinstance(error, NotOursError) or (run.ended_at is not None and error.errno not in _MAY_PASS)
        if is_hopeless or wait_for_signal(_ENDING, pause_s) is not None or os.getppid() != parent:
            return error.errno or errno.EIO
    return 0


def _error_of_writing(options: Arguments, job: Job, run: Run, *, monitor: str, notes: list[str]) -> OSError | None:
    try:
        with JobsDirectory(monitor, experiment_id=options.experiment_id) as jobs:
            job_id, file, report = job.job_id, job.file, jobs.load(job.file)
            if report is not None and report.get("raw_id") != job.raw_id:
                job_id, file, report = str(job.raw_id), job.spare_file, jobs.load(job.spare_file)
            report = report or _new_report(job, job_id)
            report["name"] = options.name or os.environ.get("EVALMON_NAME") or report.get("name")
            report["job_name"] = os.environ.get("SLURM_JOB_NAME") or report.get("job_name")
            attempt = without_surrogates(_attempt(options, job, run))
            notes += [note for note in sampler_notes(attempt.get("sampler")) if note not in notes]
            observed = json.loads(run.observed_evals) if run.observed_evals else {}
            enter(report, attempt, run, notes=notes, observed=observed)
            jobs.save(file, report)
    except OSError as error:
        note = without_surrogates(f"report: {error}"[:300])
        notes += [note] if note not in notes else []
        return error
    return None


def _new_report(job: Job, job_id: str) -> dict[str, Any]:
    """A report with no attempt in it."""
    return {
        "schema": SCHEMA,
        "job_id": job_id,
        "raw_id": job.raw_id,
        "cluster": job.cluster,
        "name": None,
        "job_name": None,
        "uid": os.getuid(),
        "attempts": [],
    }


def _attempt(options: Arguments, job: Job, run: Run) -> dict[str, Any]:
    """The attempt's facts without its end."""
    output_dir = options.output_dir or os.environ.get("EVALMON_OUTPUT_DIR")
    attempt: dict[str, Any] = {
        "restart": job.restart,
        "token": options.token,
        "host": os.uname().nodename,
        "boot_id": _boot_id(),
        "node": os.environ.get("SLURMD_NODENAME"),
        "nodes": job.nodes,
        "time_limit_end": job.time_limit_end,
        "output_dir": os.path.abspath(output_dir) if output_dir else None,
        "interpreter": sys.executable,
        "scope": job.scope,
    }
    if run.sampler_status:
        attempt["sampler"] = json.loads(run.sampler_status)
        if run.sampler_trouble:
            attempt["sampler"]["ended"] = run.sampler_trouble
    elif run.sampler_trouble:
        attempt["sampler"] = {"not_sampled": run.sampler_trouble, "troubles": []}
    return attempt


def sampler_notes(sampler: dict[str, Any] | None) -> list[str]:
    """The problems for the report's notes; having no GPU is not a problem."""
    if sampler is None:
        return []
    notes = [f"sampler: {trouble}" for trouble in sampler["troubles"]]
    ended = sampler.get("ended", "")
    if not sampler.get("not_sampled") and ended != "SIGTERM":
        notes.append(f"sampler: {ended or 'ended without a word'}")
    return notes


def _boot_id() -> str | None:
    try:
        return boot_id()
    except OSError:
        return None


def is_report(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this has the shape of a report, of this or a newer schema."""
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        return False
    attempts = value.get("attempts")
    return isinstance(attempts, list) and all(
        isinstance(attempt, dict)
        and isinstance(attempt.get("notes"), list)
        and isinstance(attempt.get("commands"), list)
        and all(isinstance(command, dict) for command in attempt["commands"])
        for attempt in attempts
    )


def enter(
    report: dict[str, Any], attempt: dict[str, Any], run: Run, *, notes: list[str], observed: Mapping[str, Any]
) -> None:
    """Write what `run` knows into `report`; a later call replaces the entry.

    Args:
        report: as _new_report gives it, or as it was read back.
        attempt: as _attempt gives it; `scope` says whether the command's end is the attempt's.
        run: the command.
        notes: what went wrong in evalmon.
        observed: `witness` and `programs`, as the witness gives them; empty if nothing looked.
    """
    is_job = attempt["scope"] == "job"
    entry = _attempt_in(report["attempts"], attempt, started_at=run.started_at if is_job else None)
    entry.update(attempt)
    entry["started_at"] = entry.get("started_at") or run.started_at
    entry.update(run.end() if is_job else dict.fromkeys(run.end()))
    entry["notes"] = [
        *entry.get("notes", ()),
        *(note for note in notes if note not in entry.get("notes", ())),
    ]
    witness = {"witness": observed["witness"]} if observed else {}
    entry["commands"] = _with_command(entry.get("commands", []), run.entry() | witness)
    if observed:
        _enter_programs(report["attempts"], entry, observed["programs"])


def _enter_programs(attempts: list[dict[str, Any]], entry: dict[str, Any], programs: list[dict[str, Any]]) -> None:
    """Enter each program once: several runs of one job may have seen it."""
    by_process = {_process_of(program): program for program in (*entry.get("programs", ()), *programs)}
    kept, size = [], 0
    for program in reversed(by_process.values()):
        size += len(repr(program))
        if size <= _PROGRAMS_BYTES_AT_MOST:
            kept.append(program)
    entry["programs"] = kept[::-1]
    entry["programs_left_out"] = entry.get("programs_left_out", 0) + len(by_process) - len(kept)
    for earlier in attempts[:-_ATTEMPTS_WITH_PROGRAMS]:
        earlier.pop("programs", None)


def _process_of(program: dict[str, Any]) -> tuple[object, object]:
    return program.get("pid"), program.get("start_ticks")


def _attempt_in(attempts: list[dict[str, Any]], facts: dict[str, Any], *, started_at: float | None) -> dict[str, Any]:
    """The entry of this attempt (and, if given, of this start); a new one if there is none."""
    attempt: dict[str, Any]
    for attempt in reversed(attempts):
        is_same_run = started_at is None or attempt.get("started_at") == started_at
        if is_same_run and all(attempt.get(key) == facts[key] for key in _SAME_ATTEMPT):
            return attempt
    attempt = {}
    attempts.append(attempt)
    return attempt


def _with_command(commands: list[dict[str, Any]], command: dict[str, Any]) -> list[dict[str, Any]]:
    key = (command["pid"], command["started_at"])
    for entry in commands:
        if (entry.get("pid"), entry.get("started_at")) == key:
            entry.update(command)
            return commands
    return [*commands, command][-_COMMANDS_AT_MOST:]


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
        text = json.dumps(report, allow_nan=False)
        if "\\ud" in text:
            text = json.dumps(without_surrogates(report), allow_nan=False)
        replace_atomically(name, f"{text}\n".encode(), dir_fd=self._descriptor)


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
