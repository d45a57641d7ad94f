"""Who may write: the experiment's one lock, of the kind that its file system bears."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import filelock

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files import soft_lock
from evalmon_agent.files.mounts import LockKind

WAIT_S = 30.0

# No such lock here, or something else than a lock in its place: waiting mends neither.
_CANNOT = frozenset(
    {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES}
)


@contextlib.contextmanager
def held(path: str, kind: LockKind, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock at `path` for one transaction.

    Promises: excludes every other holder of the same kind; raises LockUnavailableError (75) when somebody else
    has it for `wait_s`, or when this host cannot take that kind; never breaks a living holder's lock. OSError: the
    file system is full, or away for now.
    """
    with _taken(path, kind, wait_s=wait_s) as have:
        if not have:
            raise LockUnavailableError(f"{path} is held by {_whom(path, kind)} for more than {wait_s:.0f} s; try again")
        yield


@contextlib.contextmanager
def _taken(path: str, kind: LockKind, *, wait_s: float) -> Iterator[bool]:
    native = filelock.FileLock(path, mode=0o600, fallback_to_soft=False) if kind == "flock" else None
    try:
        have = soft_lock.acquire(path, wait_s=wait_s) if native is None else _acquire(native, wait_s=wait_s)
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


def _acquire(native: filelock.BaseFileLock, *, wait_s: float) -> bool:
    try:
        native.acquire(timeout=wait_s, poll_interval=0.02)
    except filelock.Timeout:
        return False
    return True


def _whom(path: str, kind: LockKind) -> str:
    holder = soft_lock.holder_of(path) if kind == "soft" else None
    return "another evalmon" if holder is None else f"process {holder.pid} on {holder.host}"
