"""Who may write: the experiment's one lock, of the kind that its file system bears."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

import filelock

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files import soft_lock
from evalmon_agent.files.mounts import LockKind

WAIT_S = 30.0
HURRIED_WAIT_S = 3.0
"""Whoever was asked to stop waits no longer: Slurm kills after KillWait, 30 s by default."""

Hurry = Callable[[], bool]

# No such lock here, or something else than a lock in its place: waiting mends neither.
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
    native = filelock.FileLock(path, mode=0o600, fallback_to_soft=False) if kind == "flock" else None
    if native is not None:
        _refuse_strangers(path)
    try:
        have = soft_lock.acquire(path, gives_up) if native is None else _acquire(native, gives_up)
    except FileExistsError:
        raise _stranger(path) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _CANNOT:
            raise
        raise LockUnavailableError(
            f"{path} cannot be locked here as {kind} ({error}); run evalmon where the experiment's lock works"
        ) from None
    try:
        yield have
    finally:
        if have and native is not None:
            native.release()
        elif have:
            soft_lock.release(path)


def _acquire(native: filelock.BaseFileLock, gives_up: Callable[[], bool]) -> bool:
    try:
        native.acquire(poll_interval=0.02, cancel_check=gives_up)
    except filelock.Timeout:
        return False
    return True


def _refuse_strangers(path: str) -> None:
    """flock works on a FIFO or a device as well, but those may be everybody's."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _stranger(path)


def _stranger(path: str) -> LockUnavailableError:
    return LockUnavailableError(f"{path}: not a lock of evalmon's; remove it")


def _by_whom(path: str, kind: LockKind, *, waited_s: float) -> str:
    """By whom, for how long, and what to do."""
    since = f"for more than {waited_s:.0f} s"
    if kind == "flock":
        return f"by another evalmon {since}; try again"
    holder = soft_lock.holder_of(path)
    if holder is None:
        return f"by something that names no process {since}; try again, or remove it if no evalmon is at work here"
    whom = f"by process {holder.pid} on {holder.host} {since}; try again"
    return whom if holder.is_here else f"{whom}, or remove it if that process is gone for good"


def flock_works(directory: str) -> bool:
    """Whether flock can be had on a file there at all; whom it excludes is the mount's business (`mounts`).

    OSError: the file system is full, or away for now.
    """
    probe = os.path.join(directory, f".flock.{os.urandom(8).hex()}.tmp")
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    finally:
        os.close(descriptor)
        os.unlink(probe)
    return True
