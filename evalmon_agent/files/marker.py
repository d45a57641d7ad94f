"""Acquires and releases a lock that is a file's existence, for file systems whose flock only one node sees.

The file (the marker) is written under a temporary name and gets its own by link(2). So it names its process (pid, host,
start; one per line) from the start, and a kill leaves no marker without a name. A marker is removed if its process has
certainly ended, by one process at a time. A marker whose process lives, or may live on another host, is never removed,
however old it is.

symlink(2) is no alternative: clients cache a link's target (sshfs for 20 s), and a dead holder's old link was seen in
place of a living one's [ran]. Nor is creating a file and then writing it: a kill in between leaves a marker that names
no process, and nothing proves that its maker is gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files.proc import boot_id, stat_fields
from evalmon_agent.files.replace import create, is_on_server, temporary_name

_MAX_BYTES = 1024
_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.25

_maybe_left_here: set[str] = set()
"""Paths where creating or removing this process's marker failed, so that one may have been left.

Elsewhere a marker that names this process is not its own: a cache may show the last one in place of another process's.
"""

_MARKER = re.compile(rb"([0-9]{1,10})\n([!-~]+)\n([0-9]{1,60})\n")
_START_FIELD = 19  # of stat_fields (proc(5): starttime)
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
_HOST_CHARS = 253
_ENDED = -1


def acquire(path: str, gives_up: Callable[[], bool]) -> bool:
    """Create the marker at `path`; False if another process had it until `gives_up` returned True.

    Raises:
        LockUnavailableError: the file system has no hard links.
        FileExistsError: the file at `path` is not a marker.
        OSError: the marker could not be created or read.
    """
    pause_s = _FIRST_WAIT_S
    while not _try(path):
        if gives_up():
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)
    return True


def release(path: str) -> None:
    """Remove this process's marker; if that fails, the next `acquire` reuses it."""
    if holder_of(path) not in {this_process(), None}:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        _maybe_left_here.add(path)


def holder_of(path: str) -> Holder | None:
    """The holder that the marker at `path` names; None if there is none, or something else."""
    try:
        return parse_holder(_text(path))
    except OSError:
        return None


def remove_marker_of(path: str, gone: Holder, *, wait_s: float = 5.0) -> bool:
    """Remove the marker of a process that certainly ended; False if it is already gone.

    A second marker, named after the ended process, keeps other processes from removing it at the same time. It is named
    like a temporary file, so `sweep` removes it if its holder was killed.
    """
    directory, name = os.path.split(path)
    removal_lock = os.path.join(directory, f".{name}.{hashlib.sha256(gone.text).hexdigest()[:16]}.tmp")
    deadline = time.monotonic() + wait_s
    if not acquire(removal_lock, lambda: time.monotonic() >= deadline):
        return False
    try:
        is_there = holder_of(path) == gone and is_on_server(path)
        if is_there:
            os.unlink(path)
    except FileNotFoundError:
        return False
    else:
        return is_there
    finally:
        release(removal_lock)


def marker_works(directory: str) -> bool:
    """Whether a marker can be created there. OSError: the file system is full, or not available now."""
    path = temporary_name(os.path.join(directory, "marker"))
    if not create(path, this_process().text, is_synced=False):
        return False
    is_readable = holder_of(path) == this_process()
    os.unlink(path)
    return is_readable


def no_lock(path: str) -> LockUnavailableError:
    """The error if neither kind of lock works."""
    return LockUnavailableError(
        f"{path}: no lock works on this file system, which has neither flock across nodes nor hard links; use "
        "another file system for the experiment"
    )


def _try(path: str) -> bool:
    try:
        is_created = create(path, this_process().text, is_synced=False)
    except OSError:
        _maybe_left_here.add(path)
        raise
    if is_created is None:
        raise no_lock(path)
    holder = None if is_created else holder_of(path)
    if is_created or (holder == this_process() and path in _maybe_left_here and is_on_server(path)):
        _maybe_left_here.discard(path)
        return True
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    elif holder is None and not _may_become_one(path):
        raise FileExistsError(errno.EEXIST, "not evalmon's lock", path)
    return False


def _may_become_one(path: str) -> bool:
    """Whether a marker is there, or was until now: a regular file. Its content may not be visible on this host yet."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return True


def _text(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process on a host. `start`: the boot's id and the clock tick of its start."""

    pid: int
    host: str
    start: int

    @property
    def text(self) -> bytes:
        """The text of the marker."""
        return f"{self.pid}\n{self.host}\n{self.start}\n".encode()

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process visible from here."""
        return self.host == this_host()

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that the process ended; on another host it never is."""
        if not self.is_here:
            return False
        try:
            return _start_of(self.pid) != self.start
        except OSError:
            return not os.path.exists(f"/proc/{self.pid}") and os.path.exists("/proc/self/stat")


def this_process() -> Holder:
    """This process as a holder; the same for its whole life."""
    return _as_holder(os.getpid())


def parse_holder(text: bytes) -> Holder | None:
    """The holder that a marker names; None for anything else."""
    match = _MARKER.fullmatch(text)
    return None if match is None else Holder(int(match[1]), match[2].decode(), int(match[3]))


def this_host() -> str:
    """This host's name, and the PID namespace unless it is the host's own: a PID means nothing outside of it."""
    name = "".join(c if "!" <= c <= "~" and c != "?" else f"?{ord(c):02x}" for c in socket.gethostname())
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = _INITIAL_PID_NAMESPACE
    suffix = "" if namespace == _INITIAL_PID_NAMESPACE else f"?pidns-{namespace:x}"
    return (name[: _HOST_CHARS - len(suffix)] + suffix) or "?"


@lru_cache(maxsize=1)
def _as_holder(pid: int) -> Holder:
    return Holder(pid, this_host(), _start_of(pid))


def _start_of(pid: int) -> int:
    """The boot's id and the clock tick of the process's start; -1 if it has ended.

    Raises:
        OSError: there is no such process.
    """
    fields = stat_fields(pid)
    if fields[0] in {b"Z", b"X"}:
        return _ENDED  # though its parent has not looked yet
    return (int(boot_id().replace("-", ""), 16) << 64) | int(fields[_START_FIELD])
