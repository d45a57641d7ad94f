"""Takes and releases a lock that is the existence of a file, for file systems whose flock only one node sees.

The file, the marker, is written aside and gets its name by link(2): it appears whole, naming its process, or not at
all, so a kill leaves none that names nobody. Regular files with such a text (pid, host, start, a line each) are also
what filelock's SoftFileLock makes: its locks and ours obey each other. A marker whose process has certainly ended is
removed by one process; one whose process lives, or may live elsewhere, never is, however old.

Not symlink(2): clients cache what a link says (sshfs for 20 s), and a dead holder's old link was seen where a living
one's stood [ran]. Nor a file that is created and then filled: a kill in between leaves one that names nobody, and
nothing, its age least of all, proves that its maker will not go on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files.proc import boot_id, stat_fields
from evalmon_agent.files.replace import temporary_name, write_beside

# How a file system refuses hard links: some FUSE and SMB file systems, object stores.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})

_MAX_BYTES = 1024
_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.25

_perhaps_ours: set[str] = set()
"""Paths where a leftover marker of this process may be: creating or removing it failed, perhaps after it was done.

Anywhere else what bears our name is not ours: a client's cache may show our last marker where another's stands now.
"""

_START_FIELD = 19  # of stat_fields (proc(5): starttime)
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
_HOST_CHARS = 253
_ENDED = -1


def acquire(path: str, gives_up: Callable[[], bool]) -> bool:
    """Make the marker at `path`; False if somebody else had it until `gives_up` said so.

    Promises: one process at a time has it; a marker whose process is certainly gone is removed, by one process;
    one whose process lives, or may live on another host, never is.

    Raises:
        LockUnavailableError: there are no hard links here.
        FileExistsError: the file there is not a marker.
        OSError: the file system says so.
    """
    return _wait(lambda: _try(path), gives_up)


def release(path: str) -> None:
    """Remove this process's marker; if that fails, the next `acquire` finds it again, or another process later."""
    if holder_of(path) not in {this_process(), None}:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        _perhaps_ours.add(path)


def holder_of(path: str) -> Holder | None:
    """The holder that the marker at `path` names; None if there is none, or something else."""
    try:
        return parse_holder(_text(path))
    except OSError:
        return None


def remove_marker_of(path: str, gone: Holder, *, wait_s: float = 5.0) -> bool:
    """Remove the marker of a process that certainly ended; False if it is already gone.

    No other process removes it meanwhile: one that may holds a lock that is named after the ended process.
    (Named as a temporary file, so that it is swept where its holder was killed: then nobody wants it any more.)
    """
    directory, name = os.path.split(path)
    right = os.path.join(directory, f".{name}.{hashlib.sha256(gone.text).hexdigest()[:16]}.tmp")
    deadline = time.monotonic() + wait_s
    if not _wait(lambda: _try(right), lambda: time.monotonic() >= deadline):
        return False
    try:
        is_there = holder_of(path) == gone and _is_current(path)
        if is_there:
            os.unlink(path)
    except FileNotFoundError:
        return False
    else:
        return is_there
    finally:
        release(right)


def marker_works(directory: str) -> bool:
    """Whether a marker can be made there. OSError: the file system is full, or not available now."""
    path = temporary_name(os.path.join(directory, "marker"))
    try:
        made = _publish(path, this_process())
    except LockUnavailableError:
        return False
    is_ours = made and holder_of(path) == this_process()
    os.unlink(path)
    return is_ours


def no_lock(path: str) -> LockUnavailableError:
    """The error if neither kind of lock works."""
    return LockUnavailableError(
        f"{path}: no lock works on this file system, which has neither flock across nodes nor hard links; use "
        "another file system for the experiment"
    )


def _wait(attempt: Callable[[], bool], gives_up: Callable[[], bool]) -> bool:
    pause_s = _FIRST_WAIT_S
    while not attempt():
        if gives_up():
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)
    return True


def _try(path: str) -> bool:
    try:
        if _publish(path, this_process()):
            _perhaps_ours.discard(path)
            return True
    except OSError:
        _perhaps_ours.add(path)
        raise
    holder = holder_of(path)
    if holder == this_process() and path in _perhaps_ours and _is_current(path):
        _perhaps_ours.discard(path)
        return True
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    elif holder is None and not _may_become_one(path):
        raise FileExistsError(errno.EEXIST, "not evalmon's lock", path)
    return False


def _publish(path: str, holder: Holder) -> bool:
    """Make the marker; False if something is there already."""
    aside = write_beside(path, holder.text, is_synced=False)
    try:
        os.link(aside, path)
    except OSError as error:
        # On NFS a link whose answer was lost is asked for again and refused, though it is there (open(2), O_EXCL).
        if os.lstat(aside).st_nlink > 1:
            return True
        if error.errno in NO_LINKS:
            # sftp also says EPERM if something is there.
            if not os.path.lexists(path) and not _is_current(aside):
                raise no_lock(path) from None
        elif error.errno != errno.EEXIST:
            raise
        return False
    finally:
        os.unlink(aside)
    return True


def _is_current(path: str) -> bool:
    """Whether the visible file is the server's present one, and not an old one from a client's cache.

    Asked of the file server by giving the file a second name for a moment: of a file that was removed there, it refuses
    that [ran on GlusterFS, whose clients show small files from a cache].
    """
    second = temporary_name(path)
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError:
        return False
    os.unlink(second)
    return True


def _may_become_one(path: str) -> bool:
    """Whether the marker may disappear, or name a holder soon: filelock's marker is empty at first."""
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
    """A process on a host. `start`: the boot's id and the clock tick of its start; None if unknown."""

    pid: int
    host: str
    start: int | None = None

    @property
    def text(self) -> bytes:
        """The text of the marker."""
        lines = [str(self.pid), self.host, *([] if self.start is None else [str(self.start)])]
        return "".join(f"{line}\n" for line in lines).encode()

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process visible from here."""
        return self.host == this_host()

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that the process ended; on another host it never is."""
        if not self.is_here:
            return False
        started = _start_of(self.pid)
        if started is None:
            return not os.path.exists(f"/proc/{self.pid}") and os.path.exists("/proc/self/stat")
        return started == _ENDED or (self.start is not None and started != self.start)


def this_process() -> Holder:
    """This process as a holder; the same for its whole life."""
    return _as_holder(os.getpid())


def parse_holder(text: bytes) -> Holder | None:
    """The holder that a marker names; None for anything else."""
    lines = text.split(b"\n")
    if not 3 <= len(lines) <= 4 or lines[-1] or not all(lines[:-1]):
        return None
    pid, host, *start = (line.decode("ascii", "replace") for line in lines[:-1])
    if not all(number.isdecimal() and number.isascii() and len(number) <= 60 for number in (pid, *start)):
        return None
    return Holder(int(pid), host, int(start[0]) if start else None)


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


def _start_of(pid: int) -> int | None:
    try:
        fields = stat_fields(pid)
        if fields[0] in {b"Z", b"X"}:
            return _ENDED  # though its parent has not looked yet
        return (int(boot_id().replace("-", ""), 16) << 64) | int(fields[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return None
