"""A lock that is a file's existence, for file systems whose flock is seen by one node only.

The marker is written aside and given its name by link(2): it is there whole or not at all, so a kill leaves none
that names nobody. (filelock's SoftFileLock makes it empty and fills it then; killed in between, it holds for ever.)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable

from evalmon_agent.files.holder import Holder, parse_holder, this_process

_held: set[str] = set()
"""The markers of this process that stand for a transaction of it."""

_MAX_BYTES = 1024
_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.25
# No hard links here: some FUSE and SMB file systems, and AFS across directories.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


def acquire(path: str, *, wait_s: float) -> bool:
    """Make the marker at `path`; False if somebody else had it for `wait_s`.

    Promises: one process at a time has it; a marker whose process is certainly gone is removed, by one process;
    one whose process lives, or may live on another host, never is. OSError: the file system says so.
    """
    if not _wait(lambda: _try(path), wait_s=wait_s):
        return False
    _held.add(path)
    return True


def release(path: str) -> None:
    """Remove our marker; one that cannot be removed now is found again by the next `acquire`, or when we are gone."""
    _held.discard(path)
    with contextlib.suppress(OSError):
        if holder_of(path) == this_process():
            os.unlink(path)


def holder_of(path: str) -> Holder | None:
    """Whom the marker at `path` names; None if there is none, or something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return parse_holder(os.read(descriptor, _MAX_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def remove_marker_of(path: str, gone: Holder, *, wait_s: float = 5.0) -> bool:
    """Remove the marker of a process that certainly ended; False if it has gone already.

    Nobody but us removes it meanwhile: who may do so holds a lock that is named after the process that ended.
    (Named as a temporary file, so that it is swept where its holder was killed: then nobody wants it any more.)
    """
    directory, name = os.path.split(path)
    right = os.path.join(directory, f".{name}.{hashlib.sha256(gone.text).hexdigest()[:16]}.tmp")
    if not _wait(lambda: _try(right), wait_s=wait_s):
        return False
    try:
        if holder_of(path) != gone:
            return False
        os.unlink(path)
        return True
    finally:
        release(right)


def _wait(attempt: Callable[[], bool], *, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    pause_s = _FIRST_WAIT_S
    while not attempt():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)
    return True


def _try(path: str) -> bool:
    if _publish(path):
        return True
    holder = holder_of(path)
    if holder == this_process() and path not in _held:
        return True  # ours, which could not be removed when we released it
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    return False


def _publish(path: str) -> bool:
    """Give a whole marker its name; False if there is one already."""
    directory, name = os.path.split(path)
    aside = os.path.join(directory, f".{name}.{os.urandom(8).hex()}.tmp")
    _create(aside)
    try:
        return _link(aside, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    finally:
        os.unlink(aside)
    try:
        _create(path)
    except FileExistsError:
        return False
    return True


def _link(aside: str, path: str) -> bool:
    try:
        os.link(aside, path)
    except OSError as error:
        # On NFS a link whose answer was lost is asked for again and refused, though it is there (open(2), O_EXCL).
        if os.lstat(aside).st_nlink > 1:
            return True
        if error.errno == errno.EEXIST:
            return False
        raise
    return True


def _create(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, this_process().text)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
