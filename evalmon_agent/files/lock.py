"""Who may write: the experiment's one lock, of the kind that its file system bears."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import filelock

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files.mounts import LockKind

WAIT_S = 30.0


@contextlib.contextmanager
def held(path: str, kind: LockKind, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock at `path` for one transaction.

    Promises: excludes every other holder of the same kind; raises LockUnavailableError (75) when somebody else
    has it for `wait_s`, or when this host cannot take that kind; never breaks a living holder's lock.
    """
    lock = _make(path, kind)
    try:
        lock.acquire(timeout=wait_s, poll_interval=0.02)
    except filelock.Timeout:
        raise LockUnavailableError(
            f"{path} is held by somebody else for more than {wait_s:.0f} s; see who it is: evalmon status"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise LockUnavailableError(
            f"{path} cannot be locked here as {kind} ({error}); run evalmon where the experiment's lock works"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _make(path: str, kind: LockKind) -> filelock.BaseFileLock:
    if kind == "flock":
        return filelock.FileLock(path, mode=0o600, fallback_to_soft=False)
    return filelock.SoftFileLock(path, mode=0o600)
