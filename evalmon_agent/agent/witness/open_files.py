"""Finds out which logs a process writes, by the files that it holds open.

They are only read, through `/proc/PID/fd/N`. What is held here is let go as soon as the process has ended: on NFS the
kernel keeps a file that was removed meanwhile until then.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from evalmon_agent.files.proc import read
from evalmon_agent.words.eval_processes import WATCHED_PROGRAMS, OpenFile, WatchedProgram

_FILES_AT_MOST = 2000
_READ_BYTES = 1 << 20
_READS_AT_MOST = 64
_LOGS_AT_MOST = 100
_LOG_CHARACTERS = 4096

LINE, NAME = "line", "name"
"""How a log is known: by a line in a file that the process holds open, or by the name of such a file."""


@dataclass(frozen=True, slots=True)
class Written:
    """A log as its process calls it: a path, a URL, or a mere name with the SHA-256 of its directory."""

    log: str
    known_by: str
    directory_sha256: str | None = None


class OpenFiles:
    """What one process holds open.

    Attributes:
        program: whose files they are, None as long as none was found.
        written: the logs.
        is_cut: something was left out.

    Raises:
        OSError: the process is gone, or another user's.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._own_pid, self.is_in_pid_namespace = _own_pid(pid)
        self._links: dict[str, str] = {}
        self._held: list[_HeldFile] = []
        self.program: WatchedProgram | None = None
        self.written: dict[Written, None] = {}
        self.is_cut = False

    def look(self) -> None:
        """Take note of what is open now, and of what was written to it since.

        Raises:
            OSError: the process is gone, or another user's.
        """
        directory = f"/proc/{self._pid}/fd"
        links: dict[str, str] = {}
        for name in os.listdir(directory)[:_FILES_AT_MOST]:
            with suppress(FileNotFoundError):
                links[name] = os.readlink(f"{directory}/{name}")
        for name, path in links.items():
            if self._links.get(name) != path and path.startswith("/"):
                self._meet(f"{directory}/{name}", path)
        self._links = links
        self.read()

    def read(self) -> None:
        """Take note of what was written to the files that are held, also after the process's end."""
        for held in self._held:
            for log in held.new_logs():
                self._add(Written(log, LINE))
            self.is_cut |= held.is_behind

    def close(self) -> None:
        """Let go of everything."""
        for held in self._held:
            held.close()
        self._held.clear()

    def _meet(self, link: str, path: str) -> None:
        for program, file, match in _matches(path):
            groups = match.groupdict()
            if groups.get("pid") != str(self._own_pid):
                continue  # inherited from the parent, or of a process elsewhere
            self.program = program
            if "log" in groups:
                self._add(Written(groups["log"], NAME, groups.get("directory")))
            if file.logs is not None and all(held.path != path for held in self._held):
                with suppress(OSError):
                    self._held.append(_HeldFile(link, path, file.logs))

    def _add(self, written: Written) -> None:
        if len(self.written) < _LOGS_AT_MOST and len(written.log) <= _LOG_CHARACTERS:
            self.written[written] = None
        elif written not in self.written:
            self.is_cut = True


class _HeldFile:
    """One file, read bit by bit."""

    def __init__(self, link: str, path: str, logs: re.Pattern[bytes]) -> None:
        self.path = path
        self.is_behind = False
        self._logs = logs
        self._offset = 0
        self._descriptor = os.open(link, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()

    def new_logs(self) -> Iterator[str]:
        """The logs in the lines that were added."""
        for _ in range(_READS_AT_MOST if self._descriptor >= 0 else 0):
            try:
                data = os.pread(self._descriptor, _READ_BYTES, self._offset)
            except OSError:
                return
            end = data.rfind(b"\n") + 1
            if not end and len(data) == _READ_BYTES:
                end = len(data)  # a line without end is none of these
            self._offset += end
            for match in self._logs.finditer(data, 0, end):
                with suppress(ValueError):
                    yield _from_json(match[1])
            self.is_behind = len(data) == _READ_BYTES
            if not self.is_behind:
                return

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _matches(path: str) -> Iterator[tuple[WatchedProgram, OpenFile, re.Match[str]]]:
    for program in WATCHED_PROGRAMS:
        for file in program.open_files:
            match = file.path.fullmatch(path)
            if match:
                yield program, file, match


def _own_pid(pid: int) -> tuple[int, bool]:
    """What the process itself calls its pid, and whether that is another than ours (NSpid in proc(5))."""
    _, _, rest = read(pid, "status").partition(b"\nNSpid:")
    pids = rest.partition(b"\n")[0].split()
    return (int(pids[-1]), len(pids) > 1) if pids else (pid, False)


def _from_json(text: bytes) -> str:
    import json  # noqa: PLC0415 (only where an eval runs)

    value: str = json.loads(b'"' + text + b'"')
    return value
