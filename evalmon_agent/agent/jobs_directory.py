"""Finds and checks the directory `evalmon/jobs`, and reads and replaces one report in it."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from evalmon_agent.files.replace import replace_atomically

from .report import SCHEMA, is_report

_REPORT_BYTES_AT_MOST = 4 << 20
_IDENTITY_BYTES_AT_MOST = 64 << 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

# Long enough for a dozen parts of one job that start at once, short enough to fit twice into what a job waits.
_LOCK_WITHIN_S = 0.7


class NotOursError(PermissionError):
    """The directory or the report is not one that we may write; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


def find_monitor_directory(environ: Mapping[str, str]) -> str | None:
    """EXP/evalmon of the nearest experiment at or above the directory of submission, else this one.

    An experiment has evalmon/registry.jsonl, or an evalmon.yaml of ours or root's (nobody else makes us
    write).
    """
    starts = [environ.get("SLURM_SUBMIT_DIR", "")]
    with suppress(OSError):  # it is gone
        starts.append(os.getcwd())
    for start in filter(os.path.isabs, starts):
        directory = start
        while True:
            monitor = os.path.join(directory, "evalmon")
            if os.path.exists(os.path.join(monitor, "registry.jsonl")):
                return monitor
            if _is_marked(directory):
                return monitor
            if directory == os.path.dirname(directory):
                break
            directory = os.path.dirname(directory)
    return None


def _is_marked(directory: str) -> bool:
    """Whether an evalmon.yaml is there: a regular file of ours or root's, or a link of ours or root's to one."""
    path, ours = os.path.join(directory, "evalmon.yaml"), {os.getuid(), 0}
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) and status.st_uid in ours:
            status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid in ours


class JobsDirectory:
    """An open `jobs` directory of ours, locked as well as the file system allows while it is open."""

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
        """Two parts of one job take turns; True also where the file system knows no such lock."""
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
        report = _parsed(data) if data is not None else None
        if report is None:
            aside = f"{name}.corrupt-{int(time.time())}"
            os.rename(name, aside, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        elif report["schema"] > SCHEMA:
            raise NotOursError(f"{name} has schema {report['schema']}")
        return report

    def _read(self, name: str) -> bytes | None:
        """Its content; None if this is no file of a sane size."""
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


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        report = _from_json(data)
    except (ValueError, RecursionError):
        return None
    return report if is_report(report) else None


def _from_json(data: bytes) -> Any:
    """ValueError or RecursionError: it is none, or not UTF-8, or has a number that JSON does not have."""
    return json.loads(data.decode(), parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _make(path: str, *, dir_fd: int | None) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700, dir_fd=dir_fd)


def _id_in(directory: int) -> str | None:
    """What tells its experiment from every other; None if nothing does."""
    try:
        descriptor = os.open("experiment.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        identity = _from_json(os.read(descriptor, _IDENTITY_BYTES_AT_MOST))
    except (ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)
    return identity.get("id") if isinstance(identity, dict) else None


def _open_ours(path: str, *, dir_fd: int | None) -> int:
    descriptor = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    status = os.fstat(descriptor)
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        os.close(descriptor)
        raise NotOursError(f"{path} is not ours alone to write")
    return descriptor
