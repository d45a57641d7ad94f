"""The inspect-ai logs in some directories, each read as far as it says how its eval went.

Promises: no exception for what lies there, at most `budget_s` (but for a file system that does not answer), at most
64 MB, and nothing is written.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from evalmon_agent.evidence.inspect_log import STARTED, InspectLog, completed_samples, interpret
from evalmon_agent.files.eval_archive import MEMBER_LIMIT_BYTES, ArchiveError, open_archive
from evalmon_agent.files.regular import open_regular, read_at

_HEADER, _START, _SUMMARIES = _WANTED = ("header.json", "_journal/start.json", "summaries.json")
_BEGIN_OF_JSON_LOG = re.compile(rb'\s*\{\s*"(?:version|status|eval)"\s*:')
_PEEK_BYTES = 4096
_FILES_AT_MOST = 100
_ENTRIES_AT_MOST = 10_000
# The file server's clock may differ from ours by as much.
_MTIME_SLACK_S = 3600.0


@dataclass(slots=True)
class FoundLogs:
    """Logs by path, and, of the `.eval` files that could not be read, why."""

    logs: dict[str, InspectLog] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def read_logs(directories: Iterable[str], *, written_since: float, budget_s: float = 2.0) -> FoundLogs:
    """The logs in these directories (not below them) that were written after a time, newest first.

    `written_since` is in epoch seconds, with an hour of slack: it only saves reading what is surely older. Of files
    without end, the 100 newest are read.
    """
    deadline = time.monotonic() + budget_s
    files = sorted({*_files(directories, deadline)}, reverse=True)[:_FILES_AT_MOST]
    found = FoundLogs()
    for modified_at, path in files:
        if modified_at < written_since - _MTIME_SLACK_S:
            break
        if time.monotonic() > deadline:
            _note(found, path, "no time left to read it")
            continue
        try:
            log = read_log(path)
        except (ArchiveError, OSError) as error:
            _note(found, path, str(error))
        else:
            if log is not None:
                found.logs[path] = log
    return found


def read_log(path: str) -> InspectLog | None:
    """One log, `.eval` or `.json`; None if inspect-ai did not write it.

    Raises:
        ArchiveError: an `.eval` file that is none, is damaged, is too large, or needs zstandard; also one that is
            just being written.
        OSError: it is not there, no regular file, or may not be read.
    """
    if not path.endswith(".eval"):
        with open_regular(path) as (descriptor, _):
            # Other people's JSON is left alone soon; in a log the samples come last: its beginning says it all.
            is_log = _BEGIN_OF_JSON_LOG.match(read_at(descriptor, 0, _PEEK_BYTES))
            return interpret(read_at(descriptor, 0, MEMBER_LIMIT_BYTES)) if is_log else None
    with open_archive(path, wanted=frozenset(_WANTED)) as archive:
        header = archive.read(_HEADER) or archive.read(_START)
        log = interpret(header, sample_count=archive.sample_count) if header else None
        if log is None or log.samples_completed is not None or log.status == STARTED:
            return log
        del header
        with suppress(ArchiveError):
            if summaries := archive.read(_SUMMARIES):
                return replace(log, samples_completed=completed_samples(summaries))
        return log


def _files(directories: Iterable[str], deadline: float) -> Iterator[tuple[float, str]]:
    """Time of the last change and path of what may be a log."""
    seen = 0
    for directory in directories:
        with suppress(OSError, ValueError), os.scandir(directory) as entries:
            for entry in entries:
                seen += 1
                if seen > _ENTRIES_AT_MOST or time.monotonic() > deadline:
                    return
                if entry.name.endswith((".eval", ".json")) and not entry.name.startswith("."):
                    with suppress(OSError):
                        if entry.is_file(follow_symlinks=False):
                            yield entry.stat(follow_symlinks=False).st_mtime, entry.path


def _note(found: FoundLogs, path: str, why: str) -> None:
    """Of a `.json` file nobody knows whether it would have been a log."""
    if path.endswith(".eval"):
        found.unreadable[path] = why
