"""Finds out which logs a process writes, by the files that it holds open, and where those are for the sampler.

Files are only read, through `/proc/PID/fd/N`. What is held here is let go as soon as the process has ended: on NFS the
kernel keeps a file that was removed meanwhile until then.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from evalmon_agent.files.proc import Mount, below, joined, mount_of, parse_mountinfo, read
from evalmon_agent.words.eval_processes import WATCHED_PROGRAMS, OpenFile, WatchedProgram

_FILES_AT_MOST = 2000
_READ_BYTES = 1 << 20
_LOGS_AT_MOST = 100
_LOG_CHARACTERS = 4096
_FILE_URL = "file://"

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
        self._held: dict[str, _HeldFile] = {}
        self.program: WatchedProgram | None = None
        self.written: dict[Written, None] = {}
        self.is_cut = False

    @property
    def names_its_logs(self) -> bool:
        """Whether what is held proves which logs it writes.

        In a pid namespace, a file of lines may be shared with a process of the same pid elsewhere; an open log is not.
        """
        is_proved = not self.is_in_pid_namespace or any(written.known_by == NAME for written in self.written)
        return self.program is not None and is_proved

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
                self._open_file(f"{directory}/{name}", path)
        self._links = links
        self.read()

    def read(self) -> None:
        """Take note of what was written to the files that are held, also after the process's end."""
        for held in self._held.values():
            for log in held.new_logs():
                self._add(Written(log, LINE))

    def close(self) -> None:
        """Let go of everything."""
        for held in self._held.values():
            os.close(held.descriptor)
        self._held.clear()

    def _open_file(self, link: str, path: str) -> None:
        for program, file, match in _matches(path):
            groups = match.groupdict()
            if groups.get("pid") != str(self._own_pid):
                continue  # inherited from the parent, or of a process elsewhere
            self.program = program
            if "log" in groups:
                self._add(Written(groups["log"], NAME, groups.get("directory")))
            if file.logs is not None and path not in self._held:
                with suppress(OSError):
                    self._held[path] = _HeldFile(link, file.logs)

    def _add(self, written: Written) -> None:
        if len(self.written) < _LOGS_AT_MOST and len(written.log) <= _LOG_CHARACTERS:
            self.written[written] = None
        elif written not in self.written:
            self.is_cut = True


class _HeldFile:
    """One file, read bit by bit.

    Raises:
        OSError: it cannot be read, or is no plain file.
    """

    def __init__(self, link: str, logs: re.Pattern[bytes]) -> None:
        self._logs = logs
        self._offset = 0
        if not stat.S_ISREG(os.stat(link).st_mode):
            raise OSError(f"{link} is no plain file")
        self.descriptor = os.open(link, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)

    def new_logs(self) -> Iterator[str]:
        """The logs in the lines that were added."""
        is_all = False
        while not is_all:
            try:
                data = os.pread(self.descriptor, _READ_BYTES, self._offset)
            except OSError:
                return
            is_all = len(data) < _READ_BYTES
            end = data.rfind(b"\n") + 1
            if not end and not is_all:
                end = len(data)  # a line without end is none of these
            self._offset += end
            for match in self._logs.finditer(data, 0, end):
                with suppress(ValueError):
                    log: str = json.loads(b'"' + match[1] + b'"')
                    yield log


def _matches(path: str) -> Iterator[tuple[WatchedProgram, OpenFile, re.Match[str]]]:
    for program in WATCHED_PROGRAMS:
        for file in program.open_files:
            match = file.path.fullmatch(path)
            if match:
                yield program, file, match


def _own_pid(pid: int) -> tuple[int, bool]:
    """What the process itself calls its pid, and whether the sampler calls it otherwise (NSpid in proc(5))."""
    _, _, rest = read(pid, "status").partition(b"\nNSpid:")
    pids = rest.partition(b"\n")[0].split()
    return (int(pids[-1]), len(pids) > 1) if pids else (pid, False)


class Paths:
    """Translates the paths of a process that has a mount namespace or a root directory of its own.

    Take it while the process lives; it serves also after its end.

    Raises:
        OSError: the process is gone, or another user's.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._root = os.readlink(f"/proc/{pid}/root")
        self._inside: list[Mount] | None = None
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            self._inside = _mounts_of(pid)

    def outside(self, path: str) -> str | None:
        """Where the sampler finds the process's `path`; None if that is not certain. A URL stays what it is."""
        if path.startswith(_FILE_URL):
            from urllib.parse import unquote  # noqa: PLC0415 (8 ms, and seldom needed)

            path = unquote(path.removeprefix(_FILE_URL).removeprefix("localhost"))
        if "://" in path or not path.startswith("/"):
            return path if "://" in path else None
        if self._inside is None:
            return path if self._root == "/" else f"{self._root.rstrip('/')}{path}"
        candidates = translations(path, self._inside, _mounts_of("self"))
        return next((candidate for candidate, device in candidates if self._is_same(path, candidate, device)), None)

    def _is_same(self, inside: str, outside: str, device: str) -> bool:
        """Whether both name one file; after the process's end, whether `outside` is at least on the right device."""
        try:
            status = os.stat(outside)
        except OSError:
            return False
        try:
            status_inside = os.stat(f"/proc/{self._pid}/root{inside}")
        except OSError:
            return f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}" == device
        return (status.st_dev, status.st_ino) == (status_inside.st_dev, status_inside.st_ino)


def _mounts_of(pid: int | str) -> list[Mount]:
    return parse_mountinfo(read(pid, "mountinfo").decode("utf-8", "surrogateescape"))


def translations(path: str, inside: list[Mount], outside: list[Mount]) -> Iterator[tuple[str, str]]:
    """The paths at which the mounts outside show what those inside show at `path`, and on which device. Pure."""
    mount = mount_of(path, inside)
    if mount is None:
        return
    in_file_system = joined(mount.root, below(path, mount.point) or "")
    for candidate in outside:
        rest = below(in_file_system, candidate.root) if candidate.device == mount.device else None
        if rest is not None:
            path_outside = joined(candidate.point, rest)
            if mount_of(path_outside, outside) == candidate:
                yield path_outside, mount.device
