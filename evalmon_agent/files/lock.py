"""Holds the experiment's lock: flock if the file system carries it across nodes, otherwise a marker file.

flock is filelock's, by its functions for a descriptor that the caller opened (filelock's own locks exclude them, and
they its). Not by its FileLock: that resolves the path before it opens it and has no option against that, so it would
lock what has been put there since EXP/evalmon was opened (`pinned`).
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
from evalmon_agent.files.mounts import LockKind
from evalmon_agent.files.replace import temporary_name

WAIT_S = 30.0
HURRIED_WAIT_S = 3.0
"""The longest wait of a process that was asked to stop: Slurm kills after KillWait, 30 s by default."""

_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_AGAIN_S = 0.02

Hurry = Callable[[], bool]

# There is no such lock here, or something else is in its place: waiting does not help.
_CANNOT = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES}
)


@contextlib.contextmanager
def held(path: str, kind: LockKind, *, wait_s: float = WAIT_S, hurry: Hurry | None = None) -> Iterator[None]:
    """Hold the lock at `path` for one transaction.

    Promises: excludes every other holder of the same kind; raises LockUnavailableError (75) when somebody else
    has it for `wait_s`, or when this host cannot take that kind; never breaks a living holder's lock. OSError: the
    file system is full, or away for now. `hurry`: once it says so, the wait ends after HURRIED_WAIT_S.
    """
    began = time.monotonic()

    def gives_up() -> bool:
        waited_s = time.monotonic() - began
        return waited_s >= wait_s or (hurry is not None and waited_s >= HURRIED_WAIT_S and hurry())

    with _taken(path, kind, gives_up=gives_up) as have:
        if not have:
            waited_s = min(wait_s, time.monotonic() - began)
            raise LockUnavailableError(f"{path} is held {_by_whom(path, kind, waited_s=waited_s)}")
        yield


@contextlib.contextmanager
def _taken(path: str, kind: LockKind, *, gives_up: Callable[[], bool]) -> Iterator[bool]:
    descriptor = -1
    try:
        if kind == "flock":
            descriptor = _flocked(path, gives_up)
            have = descriptor >= 0
        else:
            have = marker.acquire(path, gives_up)
    except FileExistsError:
        raise _stranger(path) from None
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        raise LockUnavailableError(
            f"{path} cannot be locked here as {kind} ({error}); run evalmon where the experiment's lock works"
        ) from None
    try:
        yield have
    finally:
        if descriptor >= 0:
            _unlock(descriptor)
        elif have:
            marker.release(path)


def _flocked(path: str, gives_up: Callable[[], bool]) -> int:
    """A descriptor of the file at `path` with its flock; -1 if somebody else had it until `gives_up` returned True.

    The file stays when it is released, so all processes wait for the same file.
    """
    while True:
        descriptor = os.open(path, _LOCK_FILE, 0o600)
        have = False
        try:
            # flock works on a FIFO or a device as well, but those may be everybody's.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _stranger(path)
            have = _wait_for(descriptor, gives_up)
            if not have:
                return -1
            have = _is_at(path, descriptor)  # not removed by a person meanwhile
            if have:
                return descriptor
        finally:
            if not have:
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


def _stranger(path: str) -> LockUnavailableError:
    return LockUnavailableError(f"{path}: not evalmon's lock; remove it")


def _by_whom(path: str, kind: LockKind, *, waited_s: float) -> str:
    """Who holds it, for how long, and what to do."""
    since = f"for more than {waited_s:.0f} s"
    if kind == "flock":
        return f"by another evalmon {since}; try again"
    holder = marker.holder_of(path)
    if holder is None:
        return f"by an unknown process {since}; try again, or remove it if no evalmon is running here"
    whom = f"by process {holder.pid} on {holder.host} {since}; try again"
    return whom if holder.is_here else f"{whom}, or remove it if that process is gone for good"


def flock_works(directory: str) -> bool:
    """Whether flock works on a file there at all; whom it excludes depends on the mount (`mounts`).

    OSError: the file system is full, or away for now.
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
