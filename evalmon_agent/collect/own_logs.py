"""Gathers the logs that may be an attempt's own: what its programs wrote, printed, or could have written.

A script's text is no proof: it only helps to find what the job's output names, in jobs in which nobody looked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import yaml

from evalmon_agent.collect.eval_logs import LogReader, NoTimeError, unreadable
from evalmon_agent.evidence.kinds import BY_NAME, KINDS
from evalmon_agent.evidence.kinds.kind import Kind, ObservedProgram
from evalmon_agent.evidence.owners import could_have_written, is_this, twin_of, writes_elsewhere
from evalmon_agent.evidence.result import UNREADABLE, EvalLog, TooLargeError
from evalmon_agent.files.trusted import OwnedFiles, read_at
from evalmon_agent.tracking.records import Attempt

_LOGS_AT_MOST = 1000
_PRINTED_AT_MOST = 200
_LINES_OF_A_PATH = 12
_SETTINGS_BYTES = 256 * 1024


@dataclass(slots=True)
class OwnLogs:
    """Logs by path; what `Evidence` says of `printed`, `configured` and `not_all_read`."""

    logs: dict[str, EvalLog] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)
    configured: dict[str, str] = field(default_factory=dict)
    not_all_read: str | None = None


def own_logs(reader: LogReader, attempt: Attempt, *, output: str, places: Iterable[str]) -> OwnLogs:
    """The logs of an attempt; those that were found before stay, also when their files are gone.

    Args:
        reader: reads them, within its budget of time.
        attempt: with the programs that were seen in its job.
        output: the end of what the job printed.
        places: directories, besides those of the programs, from which paths in the output may be seen.
    """
    programs = attempt.report.eval_programs if attempt.report is not None else []
    found = OwnLogs(logs={log.path: log for log in attempt.evidence.logs} if attempt.evidence is not None else {})
    try:
        for path in [*found.logs, *(written.path for program in programs for written in program.wrote if written.path)]:
            _read(reader, path, found)
        bases = dict.fromkeys([*(program.cwd for program in programs if program.cwd), *places])
        for path in dict.fromkeys(path for kind in KINDS for path in printed_paths(kind, output)):
            candidates = {os.path.normpath(os.path.join(base, path)) for base in bases or ("/",)}
            found.printed += [candidate for candidate in sorted(candidates) if _read(reader, candidate, found)]
        for program in [*programs, *_twins(attempt)]:
            _in_directory_of(program, reader, found)
    except NoTimeError as error:
        found.not_all_read = f"not all logs were read: {error}"
    return found


def _twins(attempt: Attempt) -> list[ObservedProgram]:
    """What may have run on nodes where nobody looked."""
    report = attempt.report
    if report is None or report.witness is None or not report.witness.nodes_unseen:
        return []
    ended_at = report.ended_at if report.ended_at is not None else attempt.ended_at
    return [twin_of(program, report.started_at or program.started_at, ended_at) for program in report.eval_programs]


def _read(reader: LogReader, path: str, found: OwnLogs) -> bool:
    """Whether there is one."""
    try:
        log = reader.read(path) if path.startswith("/") else None
    except TooLargeError as error:
        found.not_all_read = f"a log was not read: {error}"
        return True
    if log is not None:
        _keep(log, found)
    return log is not None


def _keep(log: EvalLog, found: OwnLogs) -> None:
    """What was read once is not given up for what cannot be read."""
    if log.status != UNREADABLE or log.path not in found.logs:
        found.logs[log.path] = log


def _in_directory_of(program: ObservedProgram, reader: LogReader, found: OwnLogs) -> None:
    """The logs where a program writes, if it may be one of theirs that wrote them."""
    kind = BY_NAME.get(program.kind)
    if kind is None:
        return
    program = _with_settings(kind, program, reader.files, found)
    unnamed = [written for written in program.wrote if written.path is None]
    is_resuming = program.verb in kind.program.resuming_verbs
    if writes_elsewhere(program) and not unnamed and not is_resuming:
        return
    directory = kind.directory_of(program)
    if directory is None:
        return
    since = 0.0 if is_resuming else program.started_at
    listed = reader.logs([directory], nested=[directory] if kind.is_nested else [], written_since=since)
    logs = dict(listed.logs)
    for path, error in listed.unreadable.items():
        with suppress(OSError):
            status = os.stat(path)
            logs[path] = unreadable(path, str(error), changed_at=status.st_mtime, size_bytes=status.st_size)
    for path, log in logs.items():
        may_be_its = could_have_written(program, log) or any(is_this(written, path) for written in unnamed)
        if not may_be_its and not (is_resuming and log.kind == kind.name and kind.agrees(program, log)):
            continue
        if len(found.logs) >= _LOGS_AT_MOST:
            found.not_all_read = f"more than {_LOGS_AT_MOST} logs may be its own"
            return
        if isinstance(why := listed.unreadable.get(path), TooLargeError):
            found.not_all_read = f"a log was not read: {why}"
        else:
            _keep(log, found)
    if listed.incomplete is not None:
        found.not_all_read = f"not all logs were read: {listed.incomplete}"


def _with_settings(kind: Kind, program: ObservedProgram, files: OwnedFiles, found: OwnLogs) -> ObservedProgram:
    """With the directory that its settings file names, which is noted."""
    path = kind.settings_of(program)
    if path is not None and kind.program.directory_option not in (program.options or {}):
        with suppress(OSError, yaml.YAMLError, RecursionError, UnicodeDecodeError), files.open(path) as (descriptor, _):
            settings = yaml.safe_load(read_at(descriptor, 0, _SETTINGS_BYTES).decode())
            if isinstance(settings, dict):
                found.configured[path] = str(settings.get(kind.program.directory_option) or "")
    return kind.configured(program, found.configured)


def printed_paths(kind: Kind, output: str) -> Iterator[str]:
    """The paths of logs that a program's own closing lines name; rich wraps them at the terminal's width."""
    matches = [] if kind.closing is None else list(kind.closing.finditer(output))
    for match in matches[-_PRINTED_AT_MOST:]:
        path = ""
        for line in output[match.end() :].split("\n", _LINES_OF_A_PATH)[:_LINES_OF_A_PATH]:
            path += line.strip()
            if kind.files.fullmatch(os.path.basename(path)):
                yield path.removeprefix("file://")
                break
