"""Holds the experiment's lock: flock if the file system carries it across nodes, otherwise a marker file.

flock is filelock's function for a descriptor that the caller opened. Not its FileLock: that resolves the path before it
opens it, so it would lock what has been put there since EXP/evalmon was opened (`pinned`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator

from filelock import lock_descriptor, unlock_descriptor

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files import marker
from evalmon_agent.files.proc import LockKind
from evalmon_agent.files.replace import create, replace_atomically, temporary_name

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

    with _acquired(path, kind, gives_up=gives_up) as is_held:
        if not is_held:
            waited_s = min(wait_s, time.monotonic() - began)
            raise LockUnavailableError(f"{path} is held {_by_whom(path, kind, waited_s=waited_s)}")
        yield


@contextlib.contextmanager
def _acquired(path: str, kind: LockKind, *, gives_up: Callable[[], bool]) -> Iterator[bool]:
    descriptor = -1
    try:
        if kind == "flock":
            descriptor = _flocked(path, gives_up)
            is_held = descriptor >= 0
        else:
            is_held = marker.acquire(path, gives_up)
    except FileExistsError:
        raise _not_a_lock(path) from None
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        raise LockUnavailableError(
            f"{path} cannot be locked here as {kind} ({error}); run evalmon where the experiment's lock works"
        ) from None
    try:
        yield is_held
    finally:
        if descriptor >= 0:
            _unlock(descriptor)
        elif is_held:
            marker.release(path)


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
    holder = marker.holder_of(path)
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
        raise marker.no_lock(path)
    with held(f"{path}.lock", "flock"):
        is_missing = not os.path.lexists(path)
        if is_missing:
            replace_atomically(path, data)
        return is_missing
