"""Reads the logs of evals in some directories, each as far as it says how its eval went.

Promises: no exception for what lies there, at most `budget_s` (but for a file system that does not answer), at most
64 MB, and nothing is written. Only what belongs to the owner of the files is read, or listed behind links. Where time
runs out, or there are too many files, `FoundLogs.incomplete` says so.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec.structs import replace

from evalmon_agent.collect.eval_archive import EvalArchive
from evalmon_agent.evidence.kinds import KINDS
from evalmon_agent.evidence.kinds.kind import Kind, LogFile
from evalmon_agent.evidence.result import UNREADABLE, EvalLog, TooLargeError, UnreadableLogError
from evalmon_agent.files.trusted import ForeignError, OwnedFiles, read_at

_PIECE_BYTES = 256 * 1024
_TEXT_LIMIT_BYTES = 1024**3
_PEEK_BYTES = 4096
_ENTRIES_AT_MOST = 50_000
_NESTED_AT_MOST = 1000
_KNOWN_AT_MOST = 20_000
# The file server's clock may differ from ours by as much.
_MTIME_SLACK_S = 3600.0


@dataclass(slots=True)
class FoundLogs:
    """The logs of a directory by path, UNREADABLE those that could not be read."""

    logs: dict[str, EvalLog] = field(default_factory=dict)
    too_large: set[str] = field(default_factory=set)
    """The unreadable ones that may be whole logs."""
    incomplete: str | None = None
    """Why not all that may be a log was looked at; None if it was."""


class NoTimeError(UnreadableLogError):
    """The budget of time is used up."""


class LogReader:
    """Reads logs for many evals within one budget of time; a file that they share is read once.

    `files`: whose logs count, and which of somebody else's were passed over.
    """

    def __init__(self, files: OwnedFiles, *, budget_s: float = 2.0) -> None:
        self.files = files
        self._known: dict[tuple[str, float, int], EvalLog | UnreadableLogError | None] = {}
        self.renew(budget_s=budget_s)

    def renew(self, *, budget_s: float) -> None:
        """A new budget, for the next eval; what was read stays known while its file is the same."""
        self._deadline = time.monotonic() + budget_s
        if len(self._known) > _KNOWN_AT_MOST:
            self._known.clear()

    @property
    def is_out_of_time(self) -> bool:
        """Whether nothing more will be read."""
        return time.monotonic() > self._deadline

    def logs(self, directory: str, *, is_nested: bool = False, written_since: float) -> FoundLogs:
        """The logs in this directory that were written after a time, newest first.

        `is_nested`: the directories right below it are looked at, too. `written_since` is in epoch seconds, with an
        hour of slack: it only saves reading what is surely older.
        """
        found = FoundLogs()
        places = [directory, *(self._below(directory, found) if is_nested else ())]
        since = written_since - _MTIME_SLACK_S
        files = sorted((file for file in {*self._files(places, found)} if file[0] >= since), reverse=True)
        # Others could leave any number of files there: those take no place from the owner's.
        for _, path, _, uid in files:
            if not self.files.is_owned(uid):
                self.files.pass_over(path, uid)
        owned = [file for file in files if self.files.is_owned(file[3])]
        for number, (modified_at, path, size_bytes, _) in enumerate(owned):
            try:
                log = self._log(path, modified_at, size_bytes)
            except ForeignError:
                continue
            except NoTimeError:
                found.incomplete = f"no time left after {number} of {len(owned)} files"
                break
            except (UnreadableLogError, OSError) as error:
                is_too_large = isinstance(error, TooLargeError)
                # Of a damaged file that is no archive nobody knows whether it would have been a log.
                if not (_kind_of_archive(path) or is_too_large) or not os.path.exists(path):
                    continue
                log = _unreadable(path, error, changed_at=modified_at, size_bytes=size_bytes)
                found.too_large |= {path} if is_too_large else set()
            if log is not None:
                found.logs[path] = log
        return found

    def read(self, path: str) -> EvalLog | None:
        """One log, UNREADABLE if it is there but cannot be read; None if it is none, or not there for us.

        Raises:
            NoTimeError: the budget of time is used up.
            TooLargeError: it is larger than what evalmon reads.
        """
        try:
            with self.files.open(path) as (descriptor, size_bytes):
                modified_at = os.fstat(descriptor).st_mtime
            return self._log(path, modified_at, size_bytes)
        except (NoTimeError, TooLargeError):
            raise
        except UnreadableLogError as error:
            return _unreadable(path, error, changed_at=modified_at, size_bytes=size_bytes)
        except OSError:
            return None

    def _log(self, path: str, modified_at: float, size_bytes: int) -> EvalLog | None:
        key = (path, modified_at, size_bytes)
        if key not in self._known:
            self._check_time()
            try:
                log = read_log(path, self.files, on_piece=self._check_time)
                log = log and replace(log, path=path, changed_at=modified_at, size_bytes=size_bytes)
            except NoTimeError:
                raise
            except UnreadableLogError as error:
                self._known[key] = error
            else:
                if self.is_out_of_time:
                    return log  # another time its samples may be counted
                self._known[key] = log
        log_or_error = self._known[key]
        if isinstance(log_or_error, UnreadableLogError):
            raise log_or_error
        return log_or_error

    def _check_time(self) -> None:
        if self.is_out_of_time:
            raise NoTimeError("no time left to read it")

    def _below(self, directory: str, found: FoundLogs) -> Iterator[str]:
        names: list[str] = []
        with suppress(OSError), self.files.scan(directory) as entries:
            for entry in entries:
                if len(names) >= _NESTED_AT_MOST or self.is_out_of_time:
                    too_many = len(names) >= _NESTED_AT_MOST
                    found.incomplete = f"{'too many directories' if too_many else 'no time left'} below {directory}"
                    break
                is_hidden = entry.name.startswith(".")
                if not is_hidden and _is_utf8(entry.name) and entry.is_dir(follow_symlinks=False):
                    names.append(os.path.join(directory, entry.name))
        yield from names

    def _files(self, directories: Iterable[str], found: FoundLogs) -> Iterator[tuple[float, str, int, int]]:
        """Time of the last change, path, size and owner of what may be a log."""
        seen = 0
        for directory in directories:
            with suppress(OSError), self.files.scan(directory) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _ENTRIES_AT_MOST or self.is_out_of_time:
                        too_many = seen > _ENTRIES_AT_MOST
                        found.incomplete = f"{'too many files' if too_many else 'no time left'} after {seen - 1} names"
                        return
                    if _may_be_log(entry.name):
                        with suppress(OSError):
                            status = entry.stat(follow_symlinks=False)
                            # The owner's links are no logs of their own; somebody else's are named.
                            if stat.S_ISREG(status.st_mode) or not self.files.is_owned(status.st_uid):
                                path = os.path.join(directory, entry.name)
                                yield status.st_mtime, path, status.st_size, status.st_uid


def _may_be_log(name: str) -> bool:
    return any(kind.files.fullmatch(name) for kind in KINDS) and _is_utf8(name)


def _is_utf8(name: str) -> bool:
    """Whether it can be kept on record; a name of arbitrary bytes comes as surrogates, which JSON has not."""
    return name == name.encode(errors="replace").decode()


def read_log(path: str, files: OwnedFiles, *, on_piece: Callable[[], None] = lambda: None) -> EvalLog | None:
    """One log; None if no kind of eval that is known wrote it. `on_piece` is called for each piece of its text.

    Raises:
        TooLargeError: it is larger than what evalmon reads.
        UnreadableLogError: an archive that is none, or is damaged; also one that is just being written.
        OSError: it is not there, no regular file of the owner's, or may not be read.
    """
    name = os.path.basename(path)
    with files.open(path) as (descriptor, size_bytes):
        modified_at = os.fstat(descriptor).st_mtime
        if kind := _kind_of_archive(path):
            archive = EvalArchive(descriptor, size_bytes, kind.members)
            file = LogFile(
                name=name,
                modified_at=modified_at,
                member=lambda member: (pieces := archive.read(member)) and _timed(pieces, on_piece),
                sample_count=archive.sample_count,
            )
            return _of_kind(kind, kind.read(file))
        peeked = read_at(descriptor, 0, _PEEK_BYTES)
        file = LogFile(name=name, modified_at=modified_at, text=lambda: _timed(_pieces(descriptor), on_piece))
        kinds = (kind for kind in KINDS if kind.files.fullmatch(name) and kind.begin.match(peeked))
        return next((_of_kind(kind, log) for kind in kinds if (log := kind.read(file)) is not None), None)


def _pieces(descriptor: int) -> Iterator[bytes]:
    for at in range(0, _TEXT_LIMIT_BYTES, _PIECE_BYTES):
        if not (piece := read_at(descriptor, at, _PIECE_BYTES)):
            return
        yield piece


def _of_kind(kind: Kind, log: EvalLog | None) -> EvalLog | None:
    return log and replace(log, kind=kind.name)


def _unreadable(path: str, error: Exception, *, changed_at: float, size_bytes: int) -> EvalLog:
    """What is known of a log that cannot be read."""
    kind = next((kind.name for kind in KINDS if kind.files.fullmatch(os.path.basename(path))), "")
    return EvalLog(
        status=UNREADABLE, path=path, kind=kind, changed_at=changed_at, size_bytes=size_bytes, error=str(error)
    )


def _kind_of_archive(path: str) -> Kind | None:
    return next((kind for kind in KINDS if kind.archive is not None and path.endswith(kind.archive)), None)


def _timed(pieces: Iterator[bytes], on_piece: Callable[[], None]) -> Iterator[bytes]:
    for piece in pieces:
        on_piece()
        yield piece
