"""Holds the experiment's lock: flock if the file system carries it across nodes, otherwise a marker file.

flock is filelock's function for a descriptor that the caller opened. Not its FileLock: that resolves the path before it
opens it, so it would lock what has been put there since EXP/evalmon was opened (`pinned`).

A marker is a lock by a file's existence, for file systems whose flock only one node sees. It is written under a
temporary name and gets its own by link(2). So it names its process (pid, host, start; one per line) from the start, and
a kill leaves no marker without a name. A marker is removed if its process has certainly ended, by one process at a
time. A marker whose process lives, or may live on another host, is never removed, however old it is.

symlink(2) is no alternative: clients cache a link's target (sshfs for 20 s), and a dead holder's old link was seen in
place of a living one's [ran]. Nor is creating a file and then writing it: a kill in between leaves a marker that names
no process, and nothing proves that its maker is gone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from filelock import lock_descriptor, unlock_descriptor

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files.private import opened
from evalmon_agent.files.proc import LockKind, boot_id, stat_fields
from evalmon_agent.files.replace import create, is_on_server, replace_atomically, temporary_name

WAIT_S = 30.0
HURRIED_WAIT_S = 3.0
"""The longest wait of a process that was asked to stop: Slurm kills after KillWait, 30 s by default."""

_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_AGAIN_S = 0.02

Hurry = Callable[[], bool]

# There is no such lock here, or another kind of file is in its place: waiting does not help.
_CANNOT = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES}
)

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
_ENDED = -1


@contextlib.contextmanager
def held(path: str, kind: LockKind, *, wait_s: float = WAIT_S, hurry: Hurry | None = None) -> Iterator[None]:
    """Hold the lock at `path` for one transaction.

    Excludes every other holder of the same kind; never breaks a living holder's lock. `hurry`: once it returns True,
    the wait ends after HURRIED_WAIT_S.

    Raises:
        LockUnavailableError: another process had it for `wait_s`, or this host cannot use that kind.
        OSError: the file system is full, or not available now.
    """
    began = time.monotonic()

    def gives_up() -> bool:
        waited_s = time.monotonic() - began
        return waited_s >= wait_s or (hurry is not None and waited_s >= HURRIED_WAIT_S and hurry())

    release = _acquired(path, kind, gives_up)
    if release is None:
        waited_s = min(wait_s, time.monotonic() - began)
        raise LockUnavailableError(f"{path} is held {_by_whom(path, kind, waited_s=waited_s)}")
    try:
        yield
    finally:
        release()


def _acquired(path: str, kind: LockKind, gives_up: Callable[[], bool]) -> Callable[[], None] | None:
    """What releases the lock again; None if another process had it until `gives_up` returned True."""
    try:
        if kind == "flock":
            descriptor = _flocked(path, gives_up)
            return None if descriptor < 0 else partial(_unlock, descriptor)
        return partial(release_marker, path) if acquire_marker(path, gives_up) else None
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        raise LockUnavailableError(
            f"{path} cannot be locked here as {kind} ({error}); run evalmon where the experiment's lock works"
        ) from None


def _flocked(path: str, gives_up: Callable[[], bool]) -> int:
    """A descriptor of the file at `path` with its flock; -1 if another process had it until `gives_up` returned True.

    The file stays when it is released, so all processes wait for the same file.
    """
    while True:
        descriptor = os.open(path, _LOCK_FILE, 0o600)
        is_held = False
        try:
            # flock works on a FIFO or a device as well, but anybody may hold it there.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_a_lock(path)
            if not _wait_for(descriptor, gives_up):
                return -1
            is_held = _is_at(path, descriptor)  # not removed by a person meanwhile
            if is_held:
                return descriptor
        finally:
            if not is_held:
                os.close(descriptor)


def _wait_for(descriptor: int, gives_up: Callable[[], bool]) -> bool:
    while not lock_descriptor(descriptor, blocking=False):
        if gives_up():
            return False
        time.sleep(_AGAIN_S)
    return True


def _is_at(path: str, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    return False


def _unlock(descriptor: int) -> None:
    """Unlock explicitly: a program that is just starting may still have the descriptor, so closing is not enough."""
    try:
        unlock_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _not_a_lock(path: str) -> LockUnavailableError:
    return LockUnavailableError(f"{path}: not evalmon's lock; remove it")


def _by_whom(path: str, kind: LockKind, *, waited_s: float) -> str:
    """The holder, for how long it has the lock, and what to do."""
    since = f"for more than {waited_s:.0f} s"
    if kind == "flock":
        return f"by another evalmon {since}; try again"
    holder = holder_of(path)
    if holder is None:
        return f"by an unknown process {since}; try again, or remove it if no evalmon is running here"
    whom = f"by process {holder.pid} on {holder.host} {since}; try again"
    return whom if holder.is_here else f"{whom}, or remove it if that process is gone for good"


def flock_works(directory: str) -> bool:
    """Whether flock works there at all; which hosts see it depends on the mount (`mounts`).

    OSError: the file system is full, or not available now.
    """
    probe = temporary_name(os.path.join(directory, "flock"))
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    finally:
        os.close(descriptor)
        os.unlink(probe)
    return True


def publish(path: str, data: bytes) -> bool:
    """Create a file that never changes, complete and on disk; False if it exists already.

    Raises:
        LockUnavailableError: there are neither hard links nor flock.
        OSError: the file could not be written.
    """
    is_created = create(path, data)
    if is_created is not None:
        return is_created
    if not flock_works(os.path.dirname(path)):
        raise _no_lock(path)
    with held(f"{path}.lock", "flock"):
        is_missing = not os.path.lexists(path)
        if is_missing:
            replace_atomically(path, data)
        return is_missing


def acquire_marker(path: str, gives_up: Callable[[], bool]) -> bool:
    """Create the marker at `path`; False if another process had it until `gives_up` returned True.

    Raises:
        LockUnavailableError: the file system has no hard links, or the file at `path` is not a marker.
        OSError: the marker could not be created or read.
    """
    pause_s = _FIRST_WAIT_S
    while not _try_marker(path):
        if gives_up():
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)
    return True


def release_marker(path: str) -> None:
    """Remove this process's marker; if that fails, the next `acquire_marker` reuses it."""
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
    with contextlib.suppress(OSError), opened(path) as (descriptor, status):
        return parse_holder(os.read(descriptor, _MAX_BYTES)) if stat.S_ISREG(status.st_mode) else None
    return None


def remove_marker_of(path: str, gone: Holder, *, wait_s: float = 5.0) -> bool:
    """Remove the marker of a process that certainly ended; False if it is already gone.

    A second marker, named after the ended process, keeps other processes from removing it at the same time. It is named
    like a temporary file, so `sweep` removes it if its holder was killed.
    """
    directory, name = os.path.split(path)
    removal_lock = os.path.join(directory, f".{name}.{hashlib.sha256(gone.text).hexdigest()[:16]}.tmp")
    deadline = time.monotonic() + wait_s
    if not acquire_marker(removal_lock, lambda: time.monotonic() >= deadline):
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
        release_marker(removal_lock)


def marker_works(directory: str) -> bool:
    """Whether a marker can be created there. OSError: the file system is full, or not available now."""
    path = temporary_name(os.path.join(directory, "marker"))
    if not create(path, this_process().text, is_synced=False):
        return False
    is_readable = holder_of(path) == this_process()
    os.unlink(path)
    return is_readable


def _no_lock(path: str) -> LockUnavailableError:
    """The error if neither kind of lock works."""
    return LockUnavailableError(
        f"{path}: no lock works on this file system, which has neither flock across nodes nor hard links; use "
        "another file system for the experiment"
    )


def _try_marker(path: str) -> bool:
    try:
        is_created = create(path, this_process().text, is_synced=False)
    except OSError:
        _maybe_left_here.add(path)
        raise
    if is_created is None:
        raise _no_lock(path)
    holder = None if is_created else holder_of(path)
    if is_created or (holder == this_process() and path in _maybe_left_here and is_on_server(path)):
        _maybe_left_here.discard(path)
        return True
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    elif holder is None and not _may_become_one(path):
        raise _not_a_lock(path)
    return False


def _may_become_one(path: str) -> bool:
    """Whether a marker is there, or was until now: a regular file. Its content may not be visible on this host yet."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return True


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
    return name + suffix or "?"


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
