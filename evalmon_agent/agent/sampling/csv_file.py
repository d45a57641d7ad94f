"""Appends to a metrics CSV: whole ticks, one `write` each, whatever the file system does meanwhile; and counts them.

Promises, for the file and its reader:

* One write with O_APPEND for all rows of a tick. A partial write (full disk) is cut off again. A torn line of an
  earlier process gets its newline first.
* There is one header. The same header is not repeated; a file with another one, or with a torn one, is moved to `.1`
  (`.2`, ...).
* One writer: a second sampler waits for its turn (flock, if the file system has it). A file that somebody
  else writes or begins to write, as a script's own `nvidia-smi > gpu_metrics.csv` does, is left to them for good.
* Only plain files of this user, with one name, in a directory to which no other user's link leads; a symbolic
  link, FIFO or device is refused and not touched, without waiting.
* Never raises for file system errors: rows are dropped and counted, and 30 s later the file is opened again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from evalmon_agent.files.trusted import ForeignError, open_directory
from evalmon_agent.words.printable import without_surrogates

_REOPEN_AFTER_S = 30.0
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_OLD_FILES_AT_MOST = 99

# How much older than this process a later file may look, since the file server has its own clock.
_CLOCKS_DIFFER_BY_S = 2.0

_TEXT_CHARACTERS = 300
_TROUBLES_AT_MOST = 8

COUNTS = (
    "gpus",
    "interval_ms",
    "ticks",
    "missed_ticks",
    "gpu_rows",
    "host_rows",
    "gpu_gaps",
    "host_gaps",
    "dropped_rows",
    "caught",
)


class _RefusedError(Exception):
    """The file at the path must not be written; the message says why."""


class _NotOurTurnError(Exception):
    """Another sampler writes to this file."""


class CsvFile:
    """One CSV; opened when it is first needed, so that a job without a GPU has no file for it.

    `trouble` is what went wrong last ("" if nothing did), `is_turn` is False
    while another sampler writes here.
    """

    def __init__(self, path: str, header: bytes, *, held_s: float = 0.0) -> None:
        """Touches nothing for `held_s` seconds, as another program may want to write this file."""
        self._directory, self._name = os.path.split(path)
        self._header = header
        self._descriptor = -1
        self._end = 0
        self._is_torn = False
        self._not_before_s = time.monotonic() + held_s
        self._since_unix_s = time.time()
        self._is_theirs = False
        self._is_made = False
        self._has_made_it = False
        self.is_turn = True
        self.trouble = f"{self._name}: the script writes it itself" if held_s else ""

    def prepare(self) -> bool:
        """Whether rows can be written now; creates the file, with its header, if necessary."""
        if self._descriptor >= 0:
            return True
        if self._is_theirs or time.monotonic() < self._not_before_s:
            return False
        try:
            self._find_directory_and_open()
        except _NotOurTurnError:
            self.is_turn = False
            self.close()
        except (OSError, _RefusedError) as error:
            self._give_up_for_now(error)
        else:
            self.is_turn = True
        return self._descriptor >= 0

    def append(self, rows: bytes) -> bool:
        """Write the rows of one tick; False if they were dropped."""
        if not self.prepare():
            return False
        try:
            self._write(rows)
        except (OSError, _RefusedError) as error:
            self._give_up_for_now(error)
            return False
        return True

    def close(self) -> None:
        """Close the file, so that another sampler may take its turn."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):  # as a write that fails: rows of this file are lost, which its reader finds out
                os.close(descriptor)

    def _find_directory_and_open(self) -> None:
        try:
            directory = open_directory(self._directory, owner=os.geteuid(), is_made=not self._is_made)
        except ForeignError as error:
            raise _RefusedError(f"{error.filename} is a link of user {error.uid}: not followed") from None
        try:
            self._is_made = True  # a person who removes it later does not want it
            self._open(directory)
        finally:
            os.close(directory)

    def _open(self, directory: int) -> None:
        self._open_plain(directory)
        start = os.pread(self._descriptor, len(self._header), 0)
        is_ours = start == self._header or (not start and self._has_made_it)
        if not is_ours and self._is_of_this_job():
            self._is_theirs = True
            raise _RefusedError("is written by somebody else: it is theirs")
        if start not in {b"", self._header}:
            self._move_aside(directory)
            self.close()
            self._open_plain(directory)
        self._end = os.fstat(self._descriptor).st_size
        self._is_torn = self._end > 0 and os.pread(self._descriptor, 1, self._end - 1) != b"\n"
        if self._end == 0:
            self._write(self._header)

    def _open_plain(self, directory: int) -> None:
        try:
            self._descriptor = os.open(self._name, _FLAGS, dir_fd=directory)
        except FileNotFoundError:
            self._descriptor = self._make(directory)
            self._has_made_it = True
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV}:
                raise _RefusedError("is no plain file") from None
            raise
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _RefusedError("is no plain file")
        if status.st_uid != os.geteuid():
            raise _RefusedError(f"belongs to user {status.st_uid}")
        if status.st_nlink > 1:
            raise _RefusedError("has a second name elsewhere")
        self._take_turn()

    def _make(self, directory: int) -> int:
        try:
            return os.open(self._name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
        except FileExistsError:
            raise _NotOurTurnError from None  # somebody was faster; the next tick finds out who

    def _is_of_this_job(self) -> bool:
        """Whether another process has written it since our start, so that it is not left from an earlier job."""
        return os.fstat(self._descriptor).st_mtime >= self._since_unix_s - _CLOCKS_DIFFER_BY_S

    def _take_turn(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _NotOurTurnError from None
        except OSError:
            pass  # a file system without locks: unknown

    def _move_aside(self, directory: int) -> None:
        for number in range(1, _OLD_FILES_AT_MOST + 1):
            aside = f"{self._name}.{number}"
            try:
                os.stat(aside, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(self._name, aside, src_dir_fd=directory, dst_dir_fd=directory)
                return
        raise _RefusedError(f"has another header, and so have {_OLD_FILES_AT_MOST} older ones")

    def _write(self, data: bytes) -> None:
        """Write all of `data` or nothing.

        Raises:
            OSError: nothing of it is there.
            _RefusedError: somebody else has written here, or removed the file; a new one follows.
        """
        status = os.fstat(self._descriptor)
        if status.st_nlink == 0:
            raise _RefusedError("was removed")
        if status.st_size != self._end:
            self._is_theirs = True
            raise _RefusedError("is written by somebody else: it is theirs now")
        whole = b"\n" + data if self._is_torn else data
        try:
            written = os.write(self._descriptor, whole)
        except OSError:
            self._cut_back()
            raise
        if written < len(whole):
            self._cut_back()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_torn = False
        self._end += written

    def _cut_back(self) -> None:
        with suppress(OSError):  # the next process that opens it finds the torn line
            os.ftruncate(self._descriptor, self._end)

    def _give_up_for_now(self, error: Exception) -> None:
        self.trouble = f"{self._name}: {_said(error)}"
        self._not_before_s = time.monotonic() + _REOPEN_AFTER_S
        self.close()


def _said(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


class SamplerStatus:
    """Counters and reasons of one sampler, whose two threads fill them.

    `texts`: not_sampled, gpu_source, no_gpu_file, host_source, ended.
    """

    def __init__(self, show: Callable[[SamplerStatus], object]) -> None:
        """`show`: makes it known; called again and again."""
        self._show = show
        self.counts = dict.fromkeys(COUNTS, 0)
        self.texts: dict[str, str] = {}
        self.troubles: list[str] = []
        self._lock = threading.Lock()

    def count(self, name: str, number: int = 1) -> None:
        """Increase the counter `name`."""
        with self._lock:
            self.counts[name] += number

    def trouble(self, text: str) -> None:
        """Record a problem, once; at most a handful are kept."""
        text = without_surrogates(text[:_TEXT_CHARACTERS])
        with self._lock:
            if text not in self.troubles and len(self.troubles) < _TROUBLES_AT_MOST:
                self.troubles.append(text)

    def caught(self, error: Exception) -> None:
        """Record an exception that nobody expected."""
        self.count("caught")
        self.trouble(f"{type(error).__name__}: {error}")

    def append(self, rows: bytes, file: CsvFile, counter: str) -> None:
        """Append whole rows to a file and count them, or what kept them from being written."""
        number = rows.count(b"\n")
        if file.append(rows):
            self.count(counter, number)
        elif file.is_turn:
            self.count("dropped_rows", number)
            self.trouble(file.trouble)
        else:
            self.trouble("another sampler is writing to this directory; waited for it")

    def entry(self) -> dict[str, Any]:
        """The `sampler` entry of the job's report."""
        with self._lock:
            texts = {name: text[:_TEXT_CHARACTERS] for name, text in self.texts.copy().items()}
            return {**self.counts, **texts, "troubles": self.troubles.copy()}

    def to_json(self) -> bytes:
        """The entry as JSON."""
        return json.dumps(self.entry()).encode()

    def show(self) -> None:
        """Make the present state known."""
        self._show(self)
